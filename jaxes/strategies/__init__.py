"""Strategies: one algorithm a file, and the registry of their factories."""

from collections.abc import Callable

from jaxes.core import Strategy
from jaxes.strategies import cem, cma_es, openai_es, snes, xnes

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "cem": cem.cem,
    "cma_es": cma_es.cma_es,
    "nes": openai_es.nes,
    "openai_es": openai_es.openai_es,
    "snes": snes.snes,
    "xnes": xnes.xnes,
}
