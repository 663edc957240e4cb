"""What an installation of a given size needs, what of it breaks first, and what helps: arithmetic over
measured figures.

`coefficients.toml` has the figures, each with where it was measured; `coefficients` reads it. `target` is
what is asked for, with ready-made sizes; `model` works out what each resource needs against what there is;
`tables` writes the documentation's tables; `command` is `karta bench capacity`.

It starts nothing and knows no other package of Karta: bounds of the gateway are figures like all others, and
a test compares them with the gateway's own.
"""
