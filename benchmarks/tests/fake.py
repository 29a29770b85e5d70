"""A contestant without a model: it sleeps, and shows whatever it is told to show."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

print("a library that prints while it is imported")


class Fake:
    packages = ("numpy",)

    def load(self, options):
        print("a library that prints while it loads")
        if options.get("dies"):
            os._exit(3)
        if options.get("fails"):
            raise ValueError("no such model\nand a second line")
        self.options = options
        self.repetitions = 0

    def gate(self, options):
        logits = np.full((1, 2, 3), self.options["logit"], dtype=np.float32)
        np.savez(options["file"], logits=logits)
        return {"file": options["file"]}

    def repeat(self, options):
        if self.options.get("unable"):
            raise NotImplementedError("one prompt at a time")
        began = time.perf_counter()
        time.sleep(options["sleep"] * self.options["factor"])
        self.repetitions += 1
        with Path(self.options["diary"]).open("a") as diary:
            diary.write(f"{self.options['name']}\n")
        return {"seconds": time.perf_counter() - began, "repetitions": self.repetitions}


CONTESTANT = Fake
