"""Writes a run down: Markdown for readers, JSON for comparing, SVG charts to look at."""

import json
import math
import os

COLOURS = {"weir": "#2a7f9e", "weir-uring": "#163f63", "nginx": "#999999"}
OTHER_COLOUR = "#cfcabd"
AIM_COLOUR = "#cc3333"


def line(result):
    name = f"{result['scenario']} {result['variant']}"
    parts = [f"{server} {own['cpu_us']:.2f} us ({own['ratio']:.2f})" for server, own in result["servers"].items()]
    aim = f"  aim {result['target']:.2f}" if result["target"] else ""
    return f"{name:28} {'  '.join(parts)}{aim}"


def growth_line(curve):
    parts = []
    for server, points in curve["points"].items():
        if points:
            parts.append(f"{server} {points[0]['cpu_us']:.2f} -> {points[-1]['cpu_us']:.2f} us")
    return f"{curve['growth']:28} {'  '.join(parts)}"


def number(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}"


def row(result, server, own):
    late = own["open_loop"] or {}
    quick = " / ".join(number(late.get(k)) for k in ("p50_us", "p99_us", "p999_us")) if late else "–"
    theirs = (result["servers"]["nginx"]["open_loop"] or {}).get("slice_p99_us")
    calm = late.get("slice_p99_us")
    calm = f"{number(calm)} (**{calm / theirs:.2f}**)" if calm and theirs else "–"
    calls = number(own["syscalls"]["total"], 2) if own["syscalls"] else "–"
    return (f"| {result['scenario']} | {result['variant']} | {server} | {own['user_us']:.2f} | {own['system_us']:.2f} "
            f"| {own['cpu_us']:.2f} | **{own['ratio']:.2f}** | {own['rps']:,.0f} | {calls} | {quick} "
            f"| {calm} | {own['pss_bytes'] / 1048576:.1f} | {own['client_busy'] * 100:.0f} % |")


def markdown(facts, results, curves, refused, charts):
    out = ["# Weir beside its peers", "",
           f"* {facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores "
           f"(governor: {facts['governor']}), Linux {facts['kernel']}",
           f"* {facts['weir']}; {facts['nginx']}"]
    out += [f"* {name}: {version}" for name, version in facts["peers"].items() if version]
    out += [f"* one worker pinned to core 0, the client to core 1, {facts['rounds']} alternating rounds of "
            f"{facts['seconds']} s after one to warm up, medians",
            "* CPU is user + system time of the whole process tree divided by the requests; latency is that of an",
            f"  open-loop client at half of nginx's rate, {facts['latency_rounds']} alternating rounds of 1 s; PSS is "
            "the tree's after the run;", "  client is its core's load; calm p99 is the median of that of each quarter "
            "of a second (and against nginx):", "  a machine that stands still for some milliseconds each second is in "
            "everybody's p99",
            "* who had an error or gave other bytes than nginx is not in the table", ""]
    if results:
        out += ["| scenario | variant | server | user µs | system µs | CPU µs | against nginx | req/s | syscalls "
                "| p50 / p99 / p99.9 µs | calm p99 µs | PSS MiB | client |", "|" + 13 * "---|"]
        out += [row(r, name, own) for r in results for name, own in r["servers"].items()]
        out.append("")
    for curve in curves:
        out += curve_table(curve)
    out += [f"![{name}]({file})" for name, file in charts]
    missing = [f"* {r['scenario']} {r['variant']}: {name}: {brief(why)}"
               for r in results for name, why in r["refused"].items()]
    missing += [f"* {label}: {brief(why)}" for label, why in refused.items()]
    if missing:
        out += ["", "Not reported:", "", *missing]
    out += ["", "Where the client is busy near 100 %, throughput is the client's; CPU per request is still the",
            "server's. Differences under 3 % are noise.", ""]
    return "\n".join(out)


def brief(why):
    return " ".join(why.split())[:160]


def curve_table(curve):
    names = [n for n, points in curve["points"].items() if points]
    out = [f"CPU µs per request against {curve['what']}:", "",
           f"| {curve['what']} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    sizes = [p["size"] for p in curve["points"][names[0]]] if names else []
    for i, size in enumerate(sizes):
        out.append(f"| {size:,} | " + " | ".join(f"{curve['points'][n][i]['cpu_us']:.2f}" for n in names) + " |")
    out.append("| growth | " + " | ".join(
        f"{curve['points'][n][-1]['cpu_us'] / max(curve['points'][n][0]['cpu_us'], 0.01):.2f}" for n in names) + " |")
    return out + [""]


class Svg:
    """As much of SVG as the charts need."""

    def __init__(self, width, height, title):
        self.width, self.height, self.parts = width, height, []
        self.text(12, 24, title, size=15)

    def rect(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
                          f'fill="{colour}"/>')

    def text(self, x, y, text, size=12, colour="#222", anchor="start"):
        text = str(text).replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
                          f'text-anchor="{anchor}">{text}</text>')

    def line(self, x1, y1, x2, y2, colour, width=1):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
                          f'stroke-width="{width}"/>')

    def path(self, points, colour):
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"/>')

    def __str__(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                f'viewBox="0 0 {self.width} {self.height}" font-family="sans-serif">'
                '<rect width="100%" height="100%" fill="white"/>' + "\n".join(self.parts) + "</svg>\n")


def overview(facts, results):
    """CPU per request of Weir's engines against nginx: the picture of the README."""
    engines = [e for e in ("weir", "weir-uring") if any(e in r["servers"] for r in results)]
    left, scale, step = 200, 420, 16 * len(engines) + 14
    most = 1.3
    svg = Svg(760, 70 + step * len(results), f"CPU per request, nginx = 1 ({facts['date'][:10]}, {facts['commit']})")
    for i, r in enumerate(results):
        y = 44 + i * step
        svg.text(12, y + 14, f"{r['scenario']}, {r['variant']}")
        for k, engine in enumerate(engines):
            if engine in r["servers"]:
                ratio = r["servers"][engine]["ratio"]
                svg.rect(left, y + 2 + k * 16, min(ratio, most) * scale, 13, COLOURS[engine])
                svg.text(left + min(ratio, most) * scale + 5, y + 13 + k * 16, f"{ratio:.2f}")
        if r["target"]:
            svg.line(left + r["target"] * scale, y, left + r["target"] * scale, y + step - 10, AIM_COLOUR, 2)
    bottom = 44 + step * len(results)
    svg.line(left + scale, 40, left + scale, bottom, "#888")
    svg.text(left + scale, bottom + 14, "nginx", anchor="middle", colour="#555")
    names = {"weir": "Weir on epoll", "weir-uring": "Weir on io_uring"}
    for k, engine in enumerate(engines):
        svg.rect(12 + 170 * k, bottom + 6, 12, 12, COLOURS[engine])
        svg.text(30 + 170 * k, bottom + 16, names[engine])
    return str(svg)


def bars(facts, result):
    """One scenario, everybody, user and system time."""
    servers = sorted(result["servers"].items(), key=lambda kv: kv[1]["cpu_us"])
    most = max(own["cpu_us"] for _, own in servers) or 1
    svg = Svg(640, 62 + 24 * len(servers),
              f"{result['scenario']}, {result['variant']}: CPU µs per request, {facts['date'][:10]}")
    for i, (name, own) in enumerate(servers):
        y, scale = 40 + 24 * i, 430 / most
        svg.text(12, y + 13, name)
        svg.rect(110, y, own["user_us"] * scale, 16, COLOURS.get(name, "#b0a890"))
        svg.rect(110 + own["user_us"] * scale, y, own["system_us"] * scale, 16, OTHER_COLOUR)
        svg.text(116 + own["cpu_us"] * scale, y + 13, f"{own['cpu_us']:.1f}")
    svg.text(12, 56 + 24 * len(servers), "dark: user, light: system", colour="#555")
    return str(svg)


def axes(svg, decades, top, form):
    """Sizes by powers of ten, costs from 0 to the top, in the frame of a growth chart."""
    for d in range(decades + 1):
        x = 60 + 440 * d / decades
        svg.line(x, 50, x, 280, "#eee")
        svg.text(x, 298, f"{10 ** d:,}", anchor="middle", colour="#555")
    for i in range(5):
        y = 280 - 230 * i / 4
        svg.line(60, y, 500, y, "#eee")
        svg.text(54, y + 4, f"{top * i / 4:{form}}", anchor="end", colour="#555")


def growth_chart(facts, curve):
    svg = Svg(640, 330, f"CPU µs per request against {curve['what']}, {facts['date'][:10]}")
    everything = [p for points in curve["points"].values() for p in points]
    if not everything:
        return str(svg)
    top = max(p["cpu_us"] for p in everything) * 1.15 or 1
    decades = max(1, math.ceil(math.log10(max(p["size"] for p in everything))))

    def at(point):
        return 60 + 440 * math.log10(max(point["size"], 1)) / decades, 280 - 230 * point["cpu_us"] / top

    axes(svg, decades, top, ".1f")
    taken = []
    for name, points in curve["points"].items():
        if points:
            colour = COLOURS.get(name, "#b0a890")
            svg.path([at(p) for p in points], colour)
            x, y = at(points[-1])
            while any(abs(y - t) < 14 for t in taken):
                y += 14
            taken.append(y)
            svg.text(510, y + 4, f"{name} {points[-1]['cpu_us']:.1f}", colour=colour)
    return str(svg)


def write(folder, facts, results, curves, refused):
    os.makedirs(folder, exist_ok=True)
    first = name = f"wire-{facts['date'][:10]}-{facts['commit']}"
    number = 1
    while os.path.exists(os.path.join(folder, name + ".md")):
        # Another run of the same commit: what it measured stays beside it.
        number += 1
        name = f"{first}-{number}"
    stem = os.path.join(folder, name)
    charts = []

    def chart(suffix, title, text):
        with open(f"{stem}-{suffix}.svg", "w") as f:
            f.write(text)
        charts.append((title, f"{name}-{suffix}.svg"))

    if results:
        chart("overview", "CPU per request against nginx", overview(facts, results))
        # The one that the README shows is the latest run that had all scenarios.
        if len(results) > 20:
            with open(os.path.join(folder, "overview.svg"), "w") as f:
                f.write(overview(facts, results))
    for r in results:
        if len(r["servers"]) > 3:
            chart(f"{r['scenario']}-{r['variant']}", f"{r['scenario']}, {r['variant']}", bars(facts, r))
    for curve in curves:
        chart(curve["growth"], f"CPU against {curve['what']}", growth_chart(facts, curve))
    with open(stem + ".md", "w") as f:
        f.write(markdown(facts, results, curves, refused, charts))
    with open(stem + ".json", "w") as f:
        json.dump({"facts": facts, "results": results, "growth": curves, "refused": refused}, f, indent=1)
        f.write("\n")
    return stem + ".md"
