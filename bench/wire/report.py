"""Writes a run down: Markdown for readers, JSON for comparing, an SVG to look at."""

import json
import os


def line(result):
    ours, theirs = result["servers"]["weir"], result["servers"]["nginx"]
    name = f"{result['scenario']} {result['variant']}"
    return (f"{name:32} weir {ours['cpu_us']:6.2f} us ({ours['user_us']:5.2f} user)  nginx {theirs['cpu_us']:6.2f} us "
            f"({theirs['user_us']:5.2f} user)  ratio {result.get('ratio', 0):4.2f}"
            + (f" (aim {result['target']:.2f})" if result["target"] else ""))


def calls(server):
    return f"{server['syscalls']['total']:.2f}" if server["syscalls"] else "–"


def markdown(facts, results):
    out = ["# Weir beside nginx", ""]
    out += [f"* {facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores "
            f"(governor: {facts['governor']}), Linux {facts['kernel']}",
            f"* Weir: {facts['weir']} (engine {facts['engine']}); nginx: {facts['nginx']}",
            f"* one worker pinned to core 0, `wrk -t1 -c{facts['connections']}` pinned to core 1, "
            f"{facts['rounds']} alternating rounds of {facts['seconds']} s, medians",
            "* CPU is user + system time of the whole process tree divided by the requests; no run had an error, and",
            "  both servers gave the same answers", ""]
    out += ["| scenario | variant | Weir CPU µs (user) | nginx CPU µs (user) | ratio | aim | Weir req/s "
            "| nginx req/s | Weir p50 / p99 µs | nginx p50 / p99 µs | syscalls Weir / nginx "
            "| PSS MiB Weir / nginx | client busy |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in results:
        a, b = r["servers"]["weir"], r["servers"]["nginx"]
        aim = f"{r['target']:.2f}" if r["target"] else "–"
        out.append(
            f"| {r['scenario']} | {r['variant']} | {a['cpu_us']:.2f} ({a['user_us']:.2f}) "
            f"| {b['cpu_us']:.2f} ({b['user_us']:.2f}) | **{r.get('ratio', 0):.2f}** | {aim} "
            f"| {a['rps']:,.0f} | {b['rps']:,.0f} | {a['p50_us']} / {a['p99_us']} | {b['p50_us']} / {b['p99_us']} "
            f"| {calls(a)} / {calls(b)} | {a['pss_bytes'] / 1048576:.1f} / {b['pss_bytes'] / 1048576:.1f} "
            f"| {max(a['client_busy'], b['client_busy']) * 100:.0f} % |")
    out += ["", "Where the client is busy near 100 %, throughput and latency are the client's; CPU per request is",
            "still the server's. Differences under 3 % are noise.", ""]
    return "\n".join(out)


def plot(facts, results):
    """CPU per request, Weir's bar over nginx's, each pair scaled to nginx."""
    row, left, scale = 34, 230, 380
    height = 60 + row * len(results)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" font-family="sans-serif" '
           'font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           '<text x="10" y="20" font-size="14">CPU per request, nginx = 1 '
           f'(commit {facts["commit"]}, {facts["date"][:10]})</text>']
    for i, r in enumerate(results):
        y = 40 + i * row
        ratio = r.get("ratio", 0)
        out.append(f'<text x="10" y="{y + 16}">{r["scenario"]} {r["variant"]}</text>')
        out.append(f'<rect x="{left}" y="{y + 2}" width="{min(ratio, 1.3) * scale:.0f}" height="12" fill="#2a7f9e"/>')
        out.append(f'<rect x="{left}" y="{y + 15}" width="{scale}" height="8" fill="#bbb"/>')
        out.append(f'<text x="{left + min(ratio, 1.3) * scale + 6:.0f}" y="{y + 12}">{ratio:.2f}</text>')
        if r["target"]:
            x = left + r["target"] * scale
            out.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{y}" y2="{y + 25}" stroke="#c33" stroke-width="2"/>')
    out.append(f'<text x="10" y="{height - 8}" fill="#555">blue: Weir, grey: nginx, red: the aim</text></svg>')
    return "\n".join(out) + "\n"


def write(folder, facts, results):
    os.makedirs(folder, exist_ok=True)
    stem = os.path.join(folder, f"wire-{facts['date'][:10]}-{facts['commit']}")
    with open(stem + ".md", "w") as f:
        f.write(markdown(facts, results))
    with open(stem + ".json", "w") as f:
        json.dump({"facts": facts, "results": results}, f, indent=1)
        f.write("\n")
    with open(stem + ".svg", "w") as f:
        f.write(plot(facts, results))
    return stem + ".md"
