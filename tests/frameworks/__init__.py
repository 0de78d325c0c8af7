"""The checker on the forms of other frameworks, each installed by `make frameworks`."""
