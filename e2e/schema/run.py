"""Holds /openapi.json against the program with schemathesis, as an admin, a manager and a user.

Each of them has a Salon of their own, with a scripted model server and Telegram behind it, so that what one of them does
is in nobody's way. What is asked follows from the description alone and is the same in every run.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
SALON = pathlib.Path(os.environ.get("SALON_BIN", HERE / "../../target/debug/salon")).resolve()
ROLES = ["admin", "manager", "user"]
PASSWORD = "two storks, one chimney"
PROVIDER_KEY = "sk-provider-0123456789abcdef"
# Nothing that is waited for takes as long, even on a busy machine.
PATIENCE_S = 40
# What a role's run must have asked at least: a run that asks nothing finds nothing.
LEAST_REQUESTS = 1500

# One try each, and breakers that never open between two requests.
UPSTREAM = """
[upstreams.{name}]
kind = "{kind}"
base_url = "{base}"
key_env = "{key}"
patience = {{ tries = 1, breaker_failures = 1000000 }}
"""
MODEL = """
[models."{name}"]
upstream = "{upstream}"
model = "mock-{name}"
rates = {{ input = "1", output = "2" }}
output = 1000
"""
# By the names that the description's examples use, so that these are answered.
MODELS = {
    "gpt-4o-mini": "openai",
    "gpt-3.5-turbo-instruct": "openai",
    "text-embedding-3-small": "openai",
    "claude-sonnet-5-5": "anthropic",
    "gemini-3.5-flash-lite": "google",
}
BOT = {"id": "parrot", "path_secret": "path-secret-0123456789abcdef0123456789", "header_secret": "header-secret-0123456789abcdef01234567"}
BOTS = """
bots:
  - bot_id: {id}
    name: Parrot
    adapter: parrot
    mode: "off"
    telegram_token: mock_token_1
    allow: everyone
    webhook:
      path_secret: {path_secret}
      secret_token: {header_secret}
"""


class Program:
    """A running program and the end of what it printed."""

    def __init__(self, args, folder):
        # A bare environment: a proxy or a key of the person who runs the tests is not the program's business.
        keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), PROVIDER_KEY)
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **keys}
        self.child = subprocess.Popen([SALON, *args], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.output = ""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.output = (self.output + line)[-16_000:]

    def says(self, pattern):
        """Waits for something that it prints."""
        patience = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.output)):
            assert self.child.poll() is None, f"it ended before it said {pattern}:\n{self.output}"
            assert time.monotonic() < patience, f"it does not say {pattern}:\n{self.output}"
            time.sleep(0.02)
        return found

    def ends(self):
        """Waits for its end, which is a good one."""
        code = self.child.wait(PATIENCE_S)
        self.reader.join(PATIENCE_S)
        assert code == 0, f"{self.child.args[1:]} ended with {code}:\n{self.output}"
        return self.output

    def end(self):
        self.child.send_signal(signal.SIGINT)
        try:
            return self.child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()


class House:
    """A Salon whose models and whose Telegram are scripted."""

    def __init__(self, folder):
        self.folder = folder
        self.programs = []

    def __enter__(self):
        try:
            self.open()
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def open(self):
        (self.folder / "bots.yaml").write_text(BOTS.format(**BOT))
        mock = self.start("mock", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:0", "--bots", "bots.yaml")
        telegram = mock.says(r"mock Telegram is at (http://127\.0\.0\.1:\d+)")[1]
        upstream = mock.says(r"model server is at (http://127\.0\.0\.1:\d+)")[1]
        self.llm = free_address()
        (self.folder / "salon.toml").write_text(settings(telegram, upstream, self.llm))
        self.salon = self.start("serve", "--bots", "bots.yaml")
        self.address = self.salon.says(r'"message":"listening","address":"(127\.0\.0\.1:\d+)"')[1]
        self.door = self.salon.says(r"https?://\S+?(/join/\S+)")[1]

    def start(self, *args):
        program = Program(args, self.folder)
        self.programs.append(program)
        return program

    def run(self, *args):
        return Program(args, self.folder).ends().strip()

    def key(self, role):
        """A new person's key. The admin is who comes first, and comes in by a browser as well."""
        if role == "admin":
            self.visit("GET", self.door)
            form = {"name": role, "email": f"{role}@birds.example", "password": PASSWORD, "pass": self.door.removeprefix("/join/")}
            self.visit("POST", "/register", form)
        else:
            self.run("user", "add", role, "--role", role)
        return self.run("key", "add", role, "--user", role, "--quiet").splitlines()[-1]

    def desk(self, role):
        """What the desk's cookie holds for them. Only the admin has a password."""
        if role != "admin":
            return "nobody"
        entered = self.visit("POST", "/admin/login", {"email": f"{role}@birds.example", "password": PASSWORD, "next": "/admin"})
        return re.search(r"__Host-desk=([^;]+)", entered.getheader("set-cookie"))[1]

    def visit(self, method, path, form=None):
        door = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"} if form else {}
        door.request(method, path, urllib.parse.urlencode(form) if form else None, headers)
        response = door.getresponse()
        said = response.read()
        assert response.status < 400, f"{method} {path}: {response.status} {said[:2000]}"
        door.close()
        return response

    def close(self):
        codes = [program.end() for program in reversed(self.programs)]
        assert not any(codes), f"they did not end well: {[program.output for program in self.programs]}"


def settings(telegram, upstream, llm):
    places = [("openai", "openai", f"{upstream}/v1", "OPENAI_API_KEY"), ("anthropic", "anthropic", upstream, "ANTHROPIC_API_KEY"), ("google", "gemini", upstream, "GEMINI_API_KEY")]
    head = f'listen = "127.0.0.1:0"\n[house]\npublic_url = "https://salon.example.org"\n[log]\nformat = "json"\n[telegram]\napi_base_url = "{telegram}"\n[llm_server]\nlisten = "{llm}"\n'
    upstreams = [UPSTREAM.format(name=name, kind=kind, base=base, key=key) for name, kind, base, key in places]
    return head + "".join(upstreams) + "".join(MODEL.format(name=name, upstream=upstream) for name, upstream in MODELS.items())


def free_address():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def hold(role, long, more):
    """Runs schemathesis in a role. Returns what is to be told of it, and whether it went well."""
    with tempfile.TemporaryDirectory(prefix="salon-schema-") as folder, House(pathlib.Path(folder)) as house:
        report = pathlib.Path(folder) / "report.json"
        env = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "LANG": "C.UTF-8",
            "COLUMNS": "160",
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SALON_ROLE": role,
            "SALON_URL": f"http://{house.address}",
            "SALON_LLM": house.llm,
            "SALON_KEY": house.key(role),
            "SALON_DESK": house.desk(role),
            **{f"SALON_BOT_{name.upper()}": value for name, value in BOT.items()},
        }
        amount = ["--max-examples", "100"] if long else ["--max-examples", "8", "--generation-deterministic"]
        command = [
            sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", HERE / "schemathesis.toml",
            "run", f"http://{house.address}/openapi.json", "--checks", "all", *amount,
            "--report", "json", "--report-json-path", report, *more,
        ]  # fmt: skip
        began = time.monotonic()
        run = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3600 if long else 600)
        took = time.monotonic() - began
        told = json.loads(report.read_text()) if report.exists() else None
        wrong = [run.stdout] if run.returncode else []
        if told and told["operations"]:
            operations, requests = told["operations"], told["test_cases"]["generated"]
            line = f"{role}: {requests} requests to {operations['tested']} operations in {took:.0f} s, {told['test_cases']['unique_failures']} failures"
            if not more and (operations["tested"] < operations["total"] or requests < LEAST_REQUESTS):
                wrong.append(f"{role}: it did not ask everything")
        else:
            line = f"{role}: it did not come to its end"
            wrong.append(line)
        if house.salon.child.poll() is not None:
            wrong.append(f"{role}: Salon is gone:\n{house.salon.output}")
        return line, "\n".join(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--role", action="append", choices=ROLES, help="only as this one")
    parser.add_argument("--long", action="store_true", help="many more requests, and others in every run")
    parser.add_argument("more", nargs="*", help="for schemathesis, behind two dashes")
    args = parser.parse_args()
    with concurrent.futures.ThreadPoolExecutor(len(ROLES)) as roles:
        runs = list(roles.map(lambda role: hold(role, args.long, args.more), args.role or ROLES))
    for _, wrong in runs:
        if wrong:
            print(wrong)
    for line, _ in runs:
        print(line)
    return 1 if any(wrong for _, wrong in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
