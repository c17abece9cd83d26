"""Strategies: one algorithm a file, and the registry of their factories."""

from collections.abc import Callable

from jaxes.core import Strategy
from jaxes.strategies import (
    ars,
    cem,
    cma_es,
    genetic,
    lm_ma_es,
    openai_es,
    pgpe,
    plain_cma,
    sep_cma_es,
    snes,
    xnes,
)

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "ars": ars.ars,
    "cem": cem.cem,
    "cma_es": cma_es.cma_es,
    "genetic": genetic.genetic,
    "lm_ma_es": lm_ma_es.lm_ma_es,
    "nes": openai_es.nes,
    "openai_es": openai_es.openai_es,
    "pgpe": pgpe.pgpe,
    "plain_cma": plain_cma.plain_cma,
    "sep_cma_es": sep_cma_es.sep_cma_es,
    "snes": snes.snes,
    "xnes": xnes.xnes,
}
