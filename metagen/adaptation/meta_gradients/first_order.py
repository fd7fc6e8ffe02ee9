"""The first-order meta-gradient: taken where adaptation ends (FOMAML, Finn 2017, arXiv:1703.03400, section 5.2)."""

from __future__ import annotations

from metagen.adaptation.meta_gradients.exact import Exact


class FirstOrder(Exact):
    """The exact one of an adaptation whose inner gradients are constants.

    For the weights that move it is dL_p / d phi_p at phi_N, the other players held fixed; learned rates, which scale
    those constants, are trained too.
    """

    second_order = False
