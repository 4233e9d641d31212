#!/usr/bin/env python3
"""Generates both sides of the call table. Python 3.11 or later, standard library only; the same tables give the same bytes.

  apigen.py --out DIRECTORY          write all generated sources there
  apigen.py --coverage FILE          write the coverage page (docs/coverage.md)
  apigen.py --check-coverage FILE    fail when that page is not current
  apigen.py --list                   print the names of the generated files
Tables are taken from this folder, or from --tables DIRECTORY.
"""

import argparse
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import emit_calls  # noqa: E402
import emit_coverage  # noqa: E402
import emit_guest  # noqa: E402
import emit_host  # noqa: E402
import emit_print  # noqa: E402
import emit_samples  # noqa: E402
from model import Model, TableError  # noqa: E402

FILES = {
    "ivgpu_calls.h": emit_calls.calls_header,
    "cuda_api.h": emit_calls.api_header,
    "ivgpu_driver.h": emit_calls.driver_header,
    "ivgpu_driver.c": emit_calls.driver_source,
    "guest_send.h": emit_guest.send_header,
    "guest_stubs.c": emit_guest.stubs_source,
    "guest_hand.h": emit_guest.hand_header,
    "guest_symbols.c": emit_guest.symbols_source,
    "libcuda.map": emit_guest.version_script,
    "host_args.h": emit_host.args_header,
    "host_dispatch.c": emit_host.dispatch_source,
    "call_print.h": emit_print.print_header,
    "call_print.c": emit_print.print_source,
    "call_samples.c": emit_samples.samples_source,
    "send_samples.c": emit_samples.send_samples_source,
}


def write_if_changed(path, text):
    """An unchanged file keeps its time, so that nothing is rebuilt for it."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    except OSError:
        pass
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out")
    parser.add_argument("--coverage")
    parser.add_argument("--check-coverage")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--tables", default=here)
    parser.add_argument("--source", default=os.path.dirname(os.path.dirname(here)), help="root of the source tree")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(FILES))
        return 0
    try:
        model = Model(*(os.path.join(arguments.tables, name) for name in ("names.txt", "signatures.txt", "calls.txt")))
        if arguments.out:
            os.makedirs(arguments.out, exist_ok=True)
            for name, emit in FILES.items():
                write_if_changed(os.path.join(arguments.out, name), emit(model))
        if arguments.coverage:
            write_if_changed(arguments.coverage, emit_coverage.page(model, arguments.source))
        if arguments.check_coverage:
            with open(arguments.check_coverage, encoding="utf-8") as file:
                if file.read() != emit_coverage.page(model, arguments.source):
                    print(f"{arguments.check_coverage} is not current: run tools/apigen/apigen.py --coverage "
                          f"{arguments.check_coverage}", file=sys.stderr)
                    return 1
    except TableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
