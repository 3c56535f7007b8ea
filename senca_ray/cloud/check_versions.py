"""Runs on the cluster ahead of a submitted script, from the folder that travels with it.

Takes NAME=VERSION of what the sender has and ends with 2 where the cluster has another. Needs nothing but
Python, because nothing else is sure to be there.
"""

import sys
from importlib.metadata import PackageNotFoundError, version


def differences(expected: dict[str, str]) -> list[str]:
    """A line for each of `python` and packages that is here in another version than expected."""
    lines = []
    for name, there in expected.items():
        try:
            python = f"{sys.version_info.major}.{sys.version_info.minor}"
            here = python if name == "python" else version(name)
        except PackageNotFoundError:
            here = "none"
        if here != there:
            lines.append(f"  {name}: {here} on the cluster, {there} on the machine that submits")
    return lines


def main() -> None:
    """Compare, tell, end."""
    found = differences(dict(given.split("=", 1) for given in sys.argv[1:]))
    if found:
        print("error: not started, because results would come from other versions than yours:")
        print("\n".join(found))
        print(
            "bring the cluster to yours with `ray up` (its docker image names Ray and Python), or install the"
        )
        print("cluster's on your machine, then submit again")
        sys.exit(2)


if __name__ == "__main__":
    main()
