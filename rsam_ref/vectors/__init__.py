"""Published vectors: steps of every algorithm, number by number, for ports to any language.

``write.py`` makes the files of ``rsam-ref vectors DIR``. They are the same bytes on every machine::

    arithmetic.py   sums in index order, so that only IEEE's + - * / and sqrt are used
    problem.py      a small network, its mini-batches, its loss and gradient
    cases.py        the algorithms and base optimizers, with their settings
    record.py       five steps of a case, every quantity of each
    write.py        the files, their manifest and their checksums
    verify.py       goes along with them: recomputes all of it, and knows nothing of this package

docs/vectors.md specifies the files. May import: algorithms, files;
verify.py nothing of ours.
Imported by: commands.
"""
