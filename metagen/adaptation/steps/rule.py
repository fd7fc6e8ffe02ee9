"""An update rule as a value: to read, to plot and to keep."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from PIL import Image

from metagen.adaptation.steps.base import layer_of
from metagen.core.functional import Weights
from metagen.errors import MetagenError
from metagen.storage.files import strangers, write_atomically
from metagen.storage.strict_json import page


class Rule(NamedTuple):
    """Descent with momentum, v <- momentum v + g and w <- w - rate preconditioner v, for one task."""

    rates: Weights  # by layer, a scalar above 0
    momenta: Weights  # by layer, a scalar in [0, 1)
    preconditioners: Weights  # by weight, one factor above 0 for each of its output channels

    def described(self) -> dict[str, Any]:
        """The rule as JSON-ready data."""
        layers = {
            layer: {"rate": rate.item(), "momentum": self.momenta[layer].item()} for layer, rate in self.rates.items()
        }
        factors = {name: factor.flatten().tolist() for name, factor in self.preconditioners.items()}
        return {"layers": layers, "preconditioners": factors}

    def table(self) -> str:
        """The rule as text, a line a layer: its rate, its momentum, the least and the largest factor of its weights."""
        width = max(map(len, (*self.rates, "layer")))
        lines = [f"{'layer':{width}}  {'rate':>9}  momentum  preconditioners"]
        for layer, rate in self.rates.items():
            own = {name: f for name, f in self.preconditioners.items() if layer_of(name) == layer}
            spans = [f"{name.rpartition('.')[2]} {f.min():.3f} to {f.max():.3f}" for name, f in own.items()]
            lines.append(f"{layer:{width}}  {rate:9.4g}  {self.momenta[layer]:8.3f}  {', '.join(spans)}")
        return "\n".join(lines)

    def picture(self) -> Image.Image:
        """Bars of the rates and momenta of every layer, and a dot for each factor of every weight."""
        from matplotlib.figure import Figure  # slow to import, and for this alone

        rows = max(len(self.rates), len(self.preconditioners))
        figure = Figure(figsize=(13, 1.5 + 0.3 * rows), layout="constrained")
        rates, momenta, factors = figure.subplots(1, 3)
        for axes, values in ((rates, self.rates), (momenta, self.momenta)):
            axes.barh(list(values), [value.item() for value in values.values()])
        for row, factor in enumerate(self.preconditioners.values()):
            factors.plot(factor.flatten().tolist(), [row] * factor.numel(), "o", alpha=0.4, color="C0")
        factors.set_yticks(range(len(self.preconditioners)), list(self.preconditioners))
        rates.set(xlabel="rate")
        momenta.set(xlim=(0, 1), xlabel="momentum")
        factors.set_xscale("log", base=2)
        factors.set(xlabel="preconditioner, by output channel")
        for axes in (rates, momenta, factors):
            axes.invert_yaxis()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        return Image.open(buffer).convert("RGB")

    def save(self, folder: Path) -> None:
        """Write rule.json and rule.png into a folder.

        Raises:
            MetagenError: they cannot be written there, or others of these names are there.
        """
        if others := sorted({"rule.json", "rule.png"} & {*(strangers(folder) if folder.is_dir() else ())}):
            raise MetagenError(f"{folder / others[0]}: would be replaced, and metagen did not write it; move it away")
        buffer = io.BytesIO()
        self.picture().save(buffer, format="png")
        write_atomically(folder / "rule.json", page(self.described()))
        write_atomically(folder / "rule.png", buffer.getvalue())


@runtime_checkable
class EmitsRule(Protocol):
    """A learner that writes the update rule of each task."""

    def rule(self, support: torch.Tensor) -> Rule:
        """The rule for a support [k, C, H, W] in [0, 1]."""
