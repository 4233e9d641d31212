"""What the doctor's tests share: running it, and expecting a fault by its word, with what was seen and what to do."""
import json
import os
import subprocess

from mediator_harness import BIN, Mediator

FAKE_CUDA = os.path.join(BIN, "..", "tests", "doctor_fake_cuda.so")
SHIM = os.path.realpath(os.path.join(BIN, "..", "lib", "ivgpu")) + "/libcuda.so.1"
DOCTOR_S = 120


class Doctor(Mediator):
    side = "--host"

    def setUp(self):
        super().setUp()
        self.control_path = os.path.join(self.folder, "control.sock")
        self.config_path = os.path.join(self.folder, "ivgpud.conf")

    def write_config(self, ready_timeout_ms=10000, more=""):
        return super().write_config(ready_timeout_ms, more + f'control = {{ socket = "{self.control_path}"; }};')

    def doctor(self, *words, status=0, variables=None):
        environment = dict(os.environ, **(variables or {}))
        result = subprocess.run([os.path.join(BIN, "ivgpu-doctor"), self.side, "--json", *words], capture_output=True,
                                text=True, timeout=DOCTOR_S, env=environment)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(report["healthy"], status == 0)
        return report["findings"]

    def names(self, fault, seen, remedy, *words, **keywords):
        """The fault is named, once or more; patterns of what was seen and of what to do."""
        findings = self.doctor(*words, status=1, **keywords)
        found = [one for one in findings if one.get("fault") == fault]
        self.assertTrue(found, f"{fault} is not among {findings}")
        self.assertRegex(found[0]["seen"], seen)
        self.assertRegex(found[0]["remedy"], remedy)

    def finds_right(self, *words, **keywords):
        findings = self.doctor(*words, **keywords)
        self.assertIn("ok", [one["verdict"] for one in findings])
        return findings

    def file(self, path, text):
        """In the test's folder, with the folders above it."""
        path = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path
