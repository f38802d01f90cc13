"""How the cost of a request grows with what it has nothing to do with: idle connections, server names, regular
expressions before the location that matches, servers of an upstream group. Instructions of user space, which a busy
machine does not touch, and CPU; Weir and nginx from the same files."""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile

import bench
import instructions
import peers
import report
import scenarios


def configured(growth, size, options, base, files, backend, binary):
    def configure(port, directory, user):
        return scenarios.growth_configuration(
            growth, size, port, directory, files, backend, options.engine, user, binary)
    return configure


def counted(growth, options, base, files):
    """Instructions per request at every size."""
    points = {"weir": [], "nginx": []}
    for size in growth.sizes:
        scenario = scenarios.Scenario(growth.name, "", growth.path, "", urls=1, host=growth.host(size))
        origin = bench.start_origin(options, base, files) if growth.path.startswith("/p/") else None
        try:
            for name, binary in (("weir", options.weir_binary), ("nginx", options.nginx_binary)):
                configure = configured(growth, size, options, base, files, origin.port if origin else 0, binary)
                beside = (lambda port: bench.hold(port, size)) if growth.idle else None
                count = instructions.count_of(name, binary, configure, scenario, False, options, base,
                                              f"{growth.name}-{size}", beside)
                points[name].append({"size": size, "instructions": count})
                print(f"  {growth.name} {size:,}: {name} {count:,.0f} instructions", flush=True)
        finally:
            if origin:
                origin.stop()
    return points


def grown(points, key):
    return points[-1][key] / points[0][key] if points and points[0].get(key) else None


def chart(facts, growth, points):
    svg = report.Svg(640, 330, f"Instructions per request against {growth.what}, {facts['date'][:10]}")
    top = max(p["instructions"] for own in points.values() for p in own) * 1.15
    decades = max(1, math.ceil(math.log10(max(growth.sizes))))
    report.axes(svg, decades, top, ",.0f")
    for name, own in points.items():
        at = [(60 + 440 * math.log10(max(p["size"], 1)) / decades, 280 - 230 * p["instructions"] / top) for p in own]
        svg.path(at, report.COLOURS[name])
        svg.text(510, at[-1][1] + 4, f"{name} {own[-1]['instructions']:,.0f}", colour=report.COLOURS[name])
    return str(svg)


def table(growth, own):
    counts, curve = own.get("instructions"), own.get("cpu")
    out = [f"## {growth.what[0].upper()}{growth.what[1:]}", ""]
    heads, rows = [], {}
    if counts:
        heads += ["Weir, instructions", "nginx"]
        for name in ("weir", "nginx"):
            for p in counts[name]:
                rows.setdefault(p["size"], []).append(f"{p['instructions']:,.0f}")
    if curve:
        names = [n for n, points in curve["points"].items() if points]
        heads += [f"{n}, CPU µs" for n in names]
        for name in names:
            for p in curve["points"][name]:
                rows.setdefault(p["size"], []).append(f"{p['cpu_us']:.2f}")
    out += [f"| {growth.what} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    out += [f"| {size:,} | {' | '.join(cells)} |" for size, cells in sorted(rows.items())]
    last = []
    if counts:
        last += [grown(counts[name], "instructions") for name in ("weir", "nginx")]
    if curve:
        last += [grown(curve["points"][name], "cpu_us") for name in names]
    out.append("| growth | " + " | ".join("–" if g is None else f"**{g:.2f}**" for g in last) + " |")
    return out + [""]


def write(options, growths, results, refused):
    facts = bench.facts(options)
    os.makedirs(options.output, exist_ok=True)
    out = ["# Growth", "",
           f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, Linux "
           f"{facts['kernel']}; {facts['weir']}; {facts['nginx']}.",
           "`bench/growth`: the same request, beside more and more of what it has nothing to do with. Instructions are "
           "callgrind's, of user space; CPU is that of the whole server, medians of "
           f"{options.rounds} alternating rounds of {options.seconds:g} s.",
           f"{options.note}." if options.note else "", ""]
    for growth in growths:
        own = results.get(growth.name)
        if own:
            out += table(growth, own)
            if own.get("instructions"):
                name = f"{growth.name}.svg"
                with open(os.path.join(options.output, name), "w") as f:
                    f.write(chart(facts, growth, own["instructions"]))
                out += [f"![instructions per request]({name})", ""]
    out += [f"* not reported: {name}: {report.brief(why)}" for name, why in refused.items()]
    with open(os.path.join(options.output, "growth.md"), "w") as f:
        f.write("\n".join(out).rstrip() + "\n")
    with open(os.path.join(options.output, "growth.json"), "w") as f:
        json.dump({"facts": facts, "note": options.note, "results": results, "refused": refused}, f, indent=1)
        f.write("\n")


def arguments():
    parser = argparse.ArgumentParser(prog="bench/growth")
    parser.add_argument("growth", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", choices=("cpu", "instructions"))
    parser.add_argument("--quick", action="store_true", help="fewer sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--warmup", type=int, default=1500)
    parser.add_argument("--note", default="")
    parser.add_argument("--engine", default="epoll")
    parser.add_argument("--weir-binary", default=os.path.join(bench.ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    parser.add_argument("--output", default=os.path.join(bench.ROOT, "bench/results"))
    options = parser.parse_args()
    options.profile, options.smoke = None, False
    options.cores = (0, min(1, (os.cpu_count() or 1) - 1))
    known = {p.name: p for p in peers.ALL}
    options.contenders = [(known["weir"], options.weir_binary), (known["weir-uring"], options.weir_binary),
                          (known["nginx"], options.nginx_binary)]
    return options


def main():
    options = arguments()
    names = [g.name for g in scenarios.GROWTH]
    if options.list:
        print("\n".join(names))
        return 0
    if set(options.growth) - set(names):
        raise SystemExit(f"bench: no such curve: {', '.join(sorted(set(options.growth) - set(names)))}")
    bench.raise_file_limit()
    chosen = [g for g in scenarios.GROWTH if not options.growth or g.name in options.growth]
    results, refused = {}, {}
    base = tempfile.mkdtemp(prefix="weir-bench-")
    os.chmod(base, 0o755)
    try:
        files = os.path.join(base, "files")
        bench.prepare_files(files)
        for growth in chosen:
            if options.quick:
                growth.sizes = growth.sizes[::2]
            own = {}
            for what, measure in (("instructions", lambda: counted(growth, options, base, files)),
                                  ("cpu", lambda: bench.run_growth(growth, options, base, files))):
                if options.only not in (None, what):
                    continue
                try:
                    own[what] = measure()
                except (bench.Refused, OSError) as why:
                    refused[f"{growth.name}, {what}"] = str(why)
                    print(f"refused: {growth.name}, {what}: {why}", flush=True)
            results[growth.name] = own
            if own.get("instructions"):
                for name in ("weir", "nginx"):
                    print(f"{growth.name}: {name} grows {grown(own['instructions'][name], 'instructions'):.3f} "
                          "in instructions", flush=True)
            if own.get("cpu"):
                print(report.growth_line(own["cpu"]), flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if not options.growth:
        write(options, chosen, results, refused)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
