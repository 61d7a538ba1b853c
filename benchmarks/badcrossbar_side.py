"""The other side of `bench_circuit.py`, run by an interpreter that has badcrossbar.

    python badcrossbar_side.py circuits.npz answers.npz REPEATS

circuits.npz holds g_K [S], v_K [V] (rows, inputs), r_K = (r_wordline, r_bitline) [ohm] for K = 0,
1, ...; answers.npz gets output_K, device_K and seconds_K, the minimum over REPEATS cold calls.
"""

import logging
import sys
import time
import warnings

import numpy as np

warnings.simplefilter("ignore")
import badcrossbar  # noqa: E402

logging.disable(logging.CRITICAL)


def main(circuits: str, answers: str, repeats: int) -> None:
    given = np.load(circuits)
    found = {}
    for k in range(sum(name.startswith("g_") for name in given)):
        g, v, (r_row, r_col) = given[f"g_{k}"], given[f"v_{k}"], given[f"r_{k}"]
        with np.errstate(divide="ignore"):
            ohm = 1 / g
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            solution = badcrossbar.compute(
                v, ohm, r_i_word_line=float(r_row), r_i_bit_line=float(r_col),
                node_voltages=False, all_currents=False,
            )  # fmt: skip
            best = min(best, time.perf_counter() - start)
        found[f"output_{k}"] = np.atleast_2d(solution.currents.output)
        found[f"seconds_{k}"] = best
    np.savez_compressed(answers, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
