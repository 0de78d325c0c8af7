"""One page in which a reader takes the step himself: `page.py` joins it to one file of HTML.

`steps.js` has the algorithms, to be read beside `sam.py`; `surfaces.js` the losses, `inner.js` the
inner maximum, `equations.js` the words, `state.js` what stands in the address. What draws is in
`ground.js`, `labels.js`, `picture.js`, `rim.js`, `beside.js` and `numbers.js`; `settings.js` and
`hands.js` are what a reader moves, and `page.js` ties all together.

In Python: `grounds.py` has the losses again, as the reference computes them; `state.py` says what
an address may hold. May import and be imported as its room.
"""
