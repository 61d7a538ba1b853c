"""Reading another simulator's settings, nothing of which is dropped unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

IDLE = {  # fields of aihwkit whose default does nothing here, or is ours too
    *("construction_seed", "enforce_consistency", "reset_std", "corrupt_devices_range", "fixed_bl"),
    *("apply_write_noise_on_set", "reverse_offset", "mean_bound_reference", "um_grad_scale"),
    *("out_scale", "max_bm_factor", "max_bm_res", "ir_drop_g_ratio", "bm_test_negative_bound"),
    *("v_offset_w_min", "auto_momentum", "no_self_transfer", "transfer_columns", "step"),
    *("n_reads_per_transfer", "scale_transfer_lr", "digital_bias", "dorefa_clip", "pcm_t0"),
    *("assumed_wmax", "g_max", "rel_to_actual_wmax", "n_rows_per_transfer", "transfer_lr"),
    *("stoc_round_x", "stoc_round_d"),
}


class Given:
    """One settings object, and which of its fields have been used."""

    def __init__(self, thing: Any, where: str, left: list[str]) -> None:
        self.thing, self.where, self.left = thing, where, left
        self.kinds = [kind.__name__ for kind in type(thing).__mro__]
        self.kind = self.kinds[0]
        self.used: set[str] = set()

    def __call__(self, name: str, default: Any = 0.0) -> Any:
        """A field's value, or the name of one of an enumeration; it is used then."""
        self.used.add(name)
        value = getattr(self.thing, name, default)
        return getattr(value, "name", value) if hasattr(value, "value") else value

    def part(self, name: str) -> Given:
        """A settings object in a field."""
        self.used.add(name)
        return Given(getattr(self.thing, name), f"{self.where}{name}.", self.left)

    def parts(self, name: str) -> list[Given]:
        """Those in a list."""
        self.used.add(name)
        each = enumerate(getattr(self.thing, name))
        return [Given(one, f"{self.where}{name}[{k}].", self.left) for k, one in each]

    def among(self, known: Mapping[str, T]) -> T:
        """What is known of its class, or of the nearest that it derives from.

        Raises:
            TypeError: nothing.
        """
        kind = next((kind for kind in self.kinds if kind in known), None)
        if kind is None:
            raise TypeError(f"{self.kind} has no counterpart; those that do: {', '.join(known)}")
        return known[kind]

    def say(self, name: str, why: str = "") -> None:
        """This field has no counterpart."""
        self.used.add(name)
        self.left.append(f"{self.where}{name}={getattr(self.thing, name)!r}{why}")

    def rest(self) -> None:
        """Say every other field that does something."""
        for name, value in vars(self.thing).items():
            plain = getattr(value, "name", value) if hasattr(value, "value") else value
            idle = name in IDLE and value == getattr(type(self.thing), name, value)
            if isinstance(plain, (int, float, str)) and plain not in (0, "NONE", "None", ""):
                if not (idle or name in self.used):
                    self.say(name)
