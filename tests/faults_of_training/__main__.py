"""``make faults-of-training``: plant each fault, print what found it, whether it was named rightly, and when."""

import argparse
import logging
import sys
import time

import torch

from tests.faults_of_training.faults import FAULTS, HEALTHY, Fault
from tests.faults_of_training.play import Said, run


def is_right(fault: Fault, one: Said) -> bool:
    """Whether a finding is one of those that were written beside the fault."""
    return any(name in one.name for name in fault.right)


def play(fault: Fault) -> list[Said]:
    """What was said of a fault."""
    return run(fault.config, fault.patch, fault.change, fault.component)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults_of_training")
    parser.add_argument("--only", default="", help="part of a fault's name")
    parser.add_argument("--verbose", action="store_true", help="also what was said besides")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    faults = [fault for fault in FAULTS if arguments.only in fault.name]
    named = right = total = false = 0
    started = time.monotonic()
    print("| fault | found by | named rightly | steps | also said |\n|---|---|---|---|---|")
    for fault in faults:
        said = [one for one in play(fault) if one.by != "end"]
        good = [one for one in said if is_right(fault, one)]
        named, right, total = named + bool(good), right + len(good), total + len(said)
        first = f"{good[0].by}: {good[0].name} | yes | {good[0].step}" if good else "- | **no** | -"
        others = ", ".join(dict.fromkeys(one.name for one in said if not is_right(fault, one))) or "-"
        print(f"| {fault.name} | {first} | {others} |", flush=True)
        if arguments.verbose:
            print("\n".join(f"    {one}" for one in said), flush=True)
    for name, config in HEALTHY.items() if not arguments.only else ():
        said = run(config)
        false += bool(said)
        print(f"| healthy: {name} | {', '.join(one.name for one in said) or '-'} | {'no' if said else 'yes'} | - | - |")
    print(f"\n{named} of {len(faults)} faults named rightly; {right} of {total} findings right ", end="")
    print(
        f"(precision {right / max(total, 1):.2f}); {false} of {len(HEALTHY)} healthy runs with a false alarm; ", end=""
    )
    print(f"{time.monotonic() - started:.0f} s")
    return int(named < 0.9 * len(faults) or false > 0)


if __name__ == "__main__":
    sys.exit(main())
