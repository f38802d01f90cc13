"""What a large configuration costs: a request among 1,000 locations or 100 regular expressions, a map of 100,000
entries, a compressed text, and `-t` of 10,000 servers. Weir beside nginx with the same files, `pcre_jit on` for both.

CPU is user + system time of the server by request, the median over alternating rounds of the ratio of two neighbours;
instructions are callgrind's, of user space alone, which a busy machine does not touch.
"""

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import bench
import instructions
import peers
import scenarios

TEXTS = 8
TEXT_BYTES = 102400
MAP_ENTRIES = 100_000
SERVERS, LOCATIONS_EACH = 10_000, 5
SIZE_TOLERANCE = 0.02
MAP_HASH = "map_hash_max_size 262144; map_hash_bucket_size 128;"
GZIP_HEADER = ("Accept-Encoding: gzip",)


def braces(text):
    """Configuration text that goes through str.format unharmed."""
    return text.replace("{", "{{").replace("}", "}}")


def lines(form, count, first=0):
    return "\n".join(form.replace("%n", str(i)) for i in range(first, first + count)) + "\n"


def gzip_case(level):
    return scenarios.Scenario(
        f"gzip-100k-level{level}", "static", "/t/%d.html", "location /t/ { }", urls=TEXTS, spread=True, connections=16,
        http=scenarios.CACHE + f" gzip on; gzip_comp_level {level};", headers=GZIP_HEADER)


def map_case(name, path, urls, stride, source, entries):
    return scenarios.Scenario(
        name, "return", path, 'location / { return 200 "$mapped\\n"; }', urls=urls, stride=stride, spread=True,
        http=MAP_HASH + f" map {source} $mapped {{{{ default none; {braces(entries)} }}}}")


def regex_case(name, path):
    return scenarios.Scenario(
        name, "return", path, lines("location ~ ^/x%n/[0-9]+$ { return 200 r%n; }", 100, 1)
        + "location / { return 200 none; }", urls=1000, spread=True)


def cases():
    exact = lines("/k%n v%n;", MAP_ENTRIES)
    hosts = "hostnames;\n" + lines("s%n.example.com e%n;", MAP_ENTRIES // 4) \
        + lines("*.w%n.example.com w%n;", MAP_ENTRIES // 2) + lines("t%n.example.* t%n;", MAP_ENTRIES // 4)
    mixed = lines("/k%n v%n;", MAP_ENTRIES - 100) + lines("~^/x%n/[0-9]+$ r%n;", 100, 1)
    return [
        scenarios.Scenario("locations-1000", "return", "/s%d/page", lines(
            "location /s%n/ { return 200 p%n; }", 1000), urls=1000, spread=True),
        scenarios.Scenario("locations-1000-exact", "return", "/e%d", lines(
            "location = /e%n { return 200 e%n; }", 1000), urls=1000, spread=True),
        regex_case("regex-first-of-100", "/x1/%d"),
        regex_case("regex-50th-of-100", "/x50/%d"),
        regex_case("regex-last-of-100", "/x100/%d"),
        regex_case("regex-none-of-100", "/y/%d"),
        map_case("map-exact", "/k%d", 20_000, 5, "$uri", exact),
        map_case("map-exact-miss", "/none%d", 20_000, 5, "$uri", exact),
        map_case("map-hostnames-exact", "/?h=s%d.example.com", 20_000, 1, "$arg_h", hosts),
        map_case("map-hostnames-head", "/?h=a.w%d.example.com", 20_000, 2, "$arg_h", hosts),
        map_case("map-hostnames-tail", "/?h=t%d.example.org", 20_000, 1, "$arg_h", hosts),
        map_case("map-regex-50th", "/x50/%d", 1000, 1, "$uri", mixed),
        gzip_case(1),
        gzip_case(6),
    ]


def prepare_texts(files):
    """Pages of words as frequent as a language's."""
    os.makedirs(os.path.join(files, "t"))
    chance = random.Random(7)
    syllables = ["an", "be", "cor", "de", "el", "fi", "gra", "ho", "in", "ka", "lo", "men", "no", "per", "ri", "ses",
                 "ta", "un", "ver", "za"]
    words = ["".join(chance.choice(syllables) for _ in range(chance.randint(1, 4))) for _ in range(4000)]
    weights = [1 / (rank + 2) for rank in range(len(words))]
    for i in range(TEXTS):
        text = ["<!doctype html><title>Page</title>\n"]
        size = 0
        while size < TEXT_BYTES:
            sentence = " ".join(chance.choices(words, weights, k=chance.randint(4, 18)))
            text.append(f'<p class="text">{sentence.capitalize()}.</p>\n')
            size += len(text[-1])
        with open(os.path.join(files, "t", f"{i}.html"), "wb") as f:
            f.write("".join(text).encode()[:TEXT_BYTES])


def same_answers(scenario, ours, theirs):
    """Refuses when the two differ; the bytes of each body."""
    sizes = [], []
    for index in range(0, scenario.variety(False), max(1, scenario.variety(False) // 50)):
        answers = [bench.fetch(s.port, scenario.url(index), scenario.headers) for s in (ours, theirs)]
        bodies = [a[2] for a in answers]
        for body, size in zip(bodies, sizes):
            size.append(len(body))
        if scenario.headers == GZIP_HEADER:
            if not all(any(line == b"content-encoding: gzip" for line in a[1]) for a in answers):
                raise bench.Refused(f"{scenario.url(index)} is not compressed")
            bodies = [gzip.decompress(b) for b in bodies]
        if answers[0][0] != answers[1][0] or bodies[0] != bodies[1]:
            raise bench.Refused(f"{scenario.url(index)}: {answers[0][0]} {bodies[0][:60]!r}, nginx "
                                f"{answers[1][0]} {bodies[1][:60]!r}")
    return [statistics.mean(s) for s in sizes]


def started(scenario, name, binary, options, base, files):
    directory, port = tempfile.mkdtemp(dir=base), bench.free_port()
    os.chmod(directory, 0o755)
    user = "user root;" if os.geteuid() == 0 else ""
    conf = scenarios.configuration(scenario, False, port, directory, files, 0, options.engine, user, binary)
    peer = next(p for p in peers.ALL if p.name == ("nginx" if name == "nginx" else "weir"))
    server = bench.Server(name, binary, options.cores[0], directory, conf, port,
                          peer.command(bench.Place(binary, port, directory, files, 0, scenario.kind, conf)))
    server.peer = peer
    return server


def cpu(scenario, options, base, files):
    """CPU per request of both, the ratio of neighbouring rounds, and the mean size of a body."""
    script = os.path.join(base, "client.lua")
    with open(script, "w") as f:
        f.write(scenarios.lua(scenario, False))
    servers = []
    try:
        for name, binary in (("weir", options.weir_binary), ("nginx", options.nginx_binary)):
            servers.append(started(scenario, name, binary, options, base, files))
        sizes = same_answers(scenario, *servers)
        rounds = []
        # Milliseconds per request: a second holds too few of them.
        seconds = max(2, options.seconds) if scenario.headers == GZIP_HEADER else options.seconds
        for number in range(-1, options.rounds):
            pair = {}
            for server in servers if number % 2 else reversed(servers):
                pair[server.name] = bench.measure(
                    server, script, 1 if number < 0 and seconds < 2 else seconds, options.cores,
                    scenario.connections)
            if number >= 0:
                rounds.append(pair)
        result = {name: {key: statistics.median(r[name][key] for r in rounds)
                         for key in ("cpu_us", "user_us", "system_us", "rps")} for name in ("weir", "nginx")}
        result["ratio"] = statistics.median(r["weir"]["cpu_us"] / r["nginx"]["cpu_us"] for r in rounds)
        result["body_bytes"] = {"weir": sizes[0], "nginx": sizes[1]}
        return result
    finally:
        for server in servers:
            server.stop()


def counted(scenario, options, base, files):
    """Instructions per request of both."""
    options.profile = None
    heavy = scenario.headers == GZIP_HEADER
    options.warmup, options.requests = (128, 256) if heavy else (1500, 2000)
    return {name: instructions.count(name, binary, scenario, False, options, base, files, 0)
            for name, binary in (("weir", options.weir_binary), ("nginx", options.nginx_binary))}


def many_servers(path, directory, port, binary):
    forms = ["location / { root /srv/www; index index.html; try_files $uri $uri/ =404; }",
             "location = /health { return 200 ok; }",
             "location /static/ { expires 7d; access_log off; }",
             "location /api/ { proxy_set_header Host $host; proxy_pass http://127.0.0.1:8080; }",
             "location ~ \\.php$ { return 404; }"]
    with open(path, "w") as f:
        f.write(f"pid {directory}/pid; error_log {directory}/error.log; events {{ worker_connections 512; }}\n"
                f"http {{ access_log off; server_names_hash_max_size 65536; server_names_hash_bucket_size 128;\n"
                f"{scenarios.temp(binary, directory)}\n")
        for i in range(SERVERS):
            f.write(f"server {{\n    listen 127.0.0.1:{port};\n"
                    f"    server_name s{i}.example.com www.s{i}.example.com;\n")
            for k in range(LOCATIONS_EACH):
                f.write(f"    {forms[k]}\n")
            f.write("}\n")
        f.write("}\n")


def tested(command):
    """Wall clock and CPU milliseconds of one process, and the most memory it had."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0 or "successful" not in done.stderr:
        raise bench.Refused(f"{command[0]} -t: {done.stderr[-500:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_ms": wall * 1000, "cpu_ms": used * 1000, "findings": done.stderr.count("[warn]")}


def test_of_many(options, base):
    """A cold `-t`, with the linter and, for Weir, without."""
    commands = {}
    for name, binary in (("weir", options.weir_binary), ("nginx", options.nginx_binary)):
        directory = tempfile.mkdtemp(dir=base)
        path = os.path.join(directory, "nginx.conf")
        many_servers(path, directory, bench.free_port(), binary)
        commands[name] = [binary, "-t", "-p", directory + "/", "-c", path]
    commands["weir, no linter"] = [*commands["weir"], "--no-lint"]
    rounds = []
    for number in range(-1, options.rounds):
        pair = {name: tested(command) for name, command in commands.items()}
        if number >= 0:
            rounds.append(pair)
    result = {name: {key: statistics.median(r[name][key] for r in rounds) for key in ("wall_ms", "cpu_ms")}
              for name in commands}
    for key in ("wall", "cpu"):
        result[f"{key}_ratio"] = statistics.median(
            r["weir"][f"{key}_ms"] / r["nginx"][f"{key}_ms"] for r in rounds)
    return result


def line_of(name, own):
    paired, count = own.get("cpu"), own.get("instructions")
    cells = [name]
    cells += [f"{paired['weir']['cpu_us']:.2f}", f"{paired['nginx']['cpu_us']:.2f}",
              f"**{paired['ratio']:.2f}**"] if paired else ["–"] * 3
    cells += [f"{count['weir']:,.0f}", f"{count['nginx']:,.0f}", f"{count['weir'] / count['nginx']:.2f}"] \
        if count else ["–"] * 3
    return f"| {' | '.join(cells)} |"


def markdown(facts, options, results, test, refused):
    out = ["# Large configurations", "",
           f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, Linux "
           f"{facts['kernel']}; {facts['weir']}; {facts['nginx']}.",
           f"`bench/config`; {options.rounds} alternating rounds of {options.seconds:g} s, medians; the ratio is the "
           "median of the rounds' own.", f"{options.note}." if options.note else "", "",
           "| per request | Weir, CPU µs | nginx | ratio | Weir, instructions | nginx | ratio |",
           "|---|---|---|---|---|---|---|"]
    out += [line_of(name, own) for name, own in results.items()]
    out.append("")
    for name, own in results.items():
        if name.startswith("gzip") and own.get("cpu"):
            size = own["cpu"]["body_bytes"]
            out.append(f"* {name}: {size['weir']:,.0f} bytes against {size['nginx']:,.0f} "
                       f"({size['weir'] / size['nginx'] - 1:+.2%}).")
    if test:
        out += ["", f"A cold `-t` of {SERVERS:,} servers with {LOCATIONS_EACH} locations each:", "",
                "| | Weir | without its linter | nginx | ratio |", "|---|---|---|---|---|"]
        for key, title in (("wall", "wall clock, ms"), ("cpu", "CPU, ms")):
            out.append(f"| {title} | {test['weir'][key + '_ms']:.0f} | {test['weir, no linter'][key + '_ms']:.0f} | "
                       f"{test['nginx'][key + '_ms']:.0f} | **{test[key + '_ratio']:.2f}** |")
    out += [f"* not reported: {name}: {bench.report.brief(why)}" for name, why in refused.items()]
    return "\n".join(out) + "\n"


def arguments():
    parser = argparse.ArgumentParser(prog="bench/config")
    parser.add_argument("case", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", choices=("cpu", "instructions"))
    parser.add_argument("--smoke", action="store_true", help="one round, small, results not kept")
    parser.add_argument("--note", default="", help="a sentence for the report: what else ran on the machine")
    parser.add_argument("--engine", default="epoll")
    parser.add_argument("--weir-binary", default=os.path.join(bench.ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    parser.add_argument("--output", default=os.path.join(bench.ROOT, "bench/results"))
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds, options.only = 1, 1, options.only or "cpu"
    options.cores = (0, min(1, (os.cpu_count() or 1) - 1))
    return options


def main():
    options = arguments()
    everything = cases()
    names = [c.name for c in everything] + ["test"]
    if options.list:
        print("\n".join(names))
        return 0
    if set(options.case) - set(names):
        raise SystemExit(f"bench: no such case: {', '.join(sorted(set(options.case) - set(names)))}")
    results, refused, test = {}, {}, None
    base = tempfile.mkdtemp(prefix="weir-bench-")
    os.chmod(base, 0o755)
    try:
        files = os.path.join(base, "files")
        os.makedirs(files)
        os.chmod(files, 0o755)
        prepare_texts(files)
        for case in everything:
            if options.case and case.name not in options.case:
                continue
            own = {}
            try:
                if options.only != "instructions":
                    own["cpu"] = cpu(case, options, base, files)
                if options.only != "cpu":
                    own["instructions"] = counted(case, options, base, files)
                results[case.name] = own
                print(line_of(case.name, own), flush=True)
            except bench.Refused as why:
                refused[case.name] = str(why)
                print(f"refused: {case.name}: {why}", flush=True)
        if not options.case or "test" in options.case:
            try:
                test = test_of_many(options, base)
                print(f"-t: {test['weir']['wall_ms']:.0f} ms against {test['nginx']['wall_ms']:.0f} "
                      f"({test['wall_ratio']:.2f}), CPU {test['cpu_ratio']:.2f}", flush=True)
            except bench.Refused as why:
                refused["test"] = str(why)
                print(f"refused: -t: {why}", flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if options.smoke:
        print(f"{len(results) + bool(test)} passed, {len(refused)} failed, 0 skipped")
    elif not options.case:
        facts = bench.facts(options)
        os.makedirs(options.output, exist_ok=True)
        with open(os.path.join(options.output, "config.json"), "w") as f:
            json.dump({"facts": facts, "note": options.note, "results": results, "test": test, "refused": refused},
                      f, indent=1)
            f.write("\n")
        with open(os.path.join(options.output, "config.md"), "w") as f:
            f.write(markdown(facts, options, results, test, refused))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
