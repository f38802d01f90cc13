"""Plants faults in a copy of the tree, one at a time, and lets the differential suite find them.

The copy is built once: each fault sleeps behind a name that the binary reads from a file beside it when it starts.
With no fault on, the cases named must be green; with each, its case must be red. Ends with ./test's line. See
docs/compatibility.md."""
import os, re, shutil, subprocess, sys, time

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
tree = os.path.join(root, "artifacts", "planted", "tree")
out = os.path.join(root, "artifacts", "planted")
SWITCH = """// Which planted fault is on: the word in the file `planted` beside the binary.
namespace Weir.Protocol;

public static class Planted
{
    private static readonly string s_name = Read();

    public static bool Is(string name) => s_name == name;

    private static string Read()
    {
        string path = System.IO.Path.Combine(System.AppContext.BaseDirectory, "planted");
        return System.IO.File.Exists(path) ? System.IO.File.ReadAllText(path).Trim() : "";
    }
}
"""


def faults():
    found = []
    for block in re.split(r"^=== ", open(os.path.join(here, "faults.txt")).read(), flags=re.M)[1:]:
        head, text = block.split("\n", 1)
        name, area, path, case = head.split()
        before, after = text.split("---\n", 1)
        after = after.replace("PLANTED", f'global::Weir.Protocol.Planted.Is("{name}")')
        found.append((name, area, path, before, after, case.replace("+", " ")))
    return found


def copy():
    os.makedirs(tree, exist_ok=True)
    files = subprocess.run(["git", "ls-files", "-z", "--", "src", "data", "*.props", "global.json", "LICENSE"],
                           cwd=root, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, files):
        source, target = os.path.join(root, name), os.path.join(tree, name)
        if not os.path.exists(source):
            continue
        text = open(source, "rb").read()
        if os.path.exists(target) and open(target, "rb").read() == text:
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "wb").write(text)


def plant(planted):
    changed = {}
    for name, _, path, before, after, _ in planted:
        target = os.path.join(tree, path)
        text = changed.get(path) or open(os.path.join(root, path)).read()
        if text.count(before) != 1:
            sys.exit(f"planted: {name}: what it replaces stands {text.count(before)} times in {path}")
        changed[path] = text.replace(before, after)
    for path, text in changed.items():
        open(os.path.join(tree, path), "w").write(text)
    open(os.path.join(tree, "src/Weir.Protocol/Planted.cs"), "w").write(SWITCH)


def dotnet(*arguments, cwd=root, **more):
    environment = {**os.environ, "WEIR_FAST": "1", "DOTNET_NOLOGO": "1", "DOTNET_CLI_TELEMETRY_OPTOUT": "1", **more}
    return subprocess.run(["dotnet", *arguments], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=1200)


def run(cases, binary):
    """The red cases of those named, and how many ran."""
    wanted = "|".join(f"(FullyQualifiedName~Differential.{area}&DisplayName~{case})" for area, case in cases)
    result = dotnet("test", "tests/Differential", "--no-build", "--nologo", "--filter", wanted,
                    "--logger", "console;verbosity=normal", WEIR_BINARY=binary, WEIR_TEST_ENGINE="epoll")
    text = result.stdout + result.stderr
    red = sorted(set(re.findall(r'\(id: "(.*?)"\) \[FAIL\]', text)))
    total = re.search(r"Total tests: (\d+)", text)
    return red, int(total.group(1)) if total else 0, text


def main():
    began = time.time()
    planted = faults()
    only = sys.argv[1:]
    if only:
        planted = [f for f in planted if f[0] in only]
    copy()
    plant(faults())
    for what, where in (("src/Weir/Weir.csproj", tree), ("tests/Differential", root)):
        built = dotnet("build", what, "-v", "q", "--nologo", cwd=where)
        if built.returncode:
            print(built.stdout[-4000:])
            sys.exit(f"planted: {what} does not build")
    binary = os.path.join(tree, "artifacts/fast/bin/Weir/debug_net10.0/weir")
    switch = os.path.join(os.path.dirname(binary), "planted")
    open(switch, "w").write("")
    good = bad = 0
    lines = []
    red, total, text = run(sorted({(f[1], f[5]) for f in planted}), binary)
    print(f"no fault: {total} cases, {len(red)} red", flush=True)
    if red or not total:
        bad += 1
        print(text[-3000:])
    else:
        good += 1
    lines.append(f"| (none) | | {total} | {len(red)} | |")
    for name, area, path, _, _, case in planted:
        open(switch, "w").write(name)
        red, total, text = run([(area, case)], binary)
        found = len(red) > 0
        good, bad = good + found, bad + (not found)
        print(f"{name}: {area}: {len(red)} of {total} red" + (f", {red[0]}" if red else ""), flush=True)
        lines.append(f"| {name} | `{path}` | {total} | {len(red)} | {red[0] if red else ''} |")
    open(switch, "w").write("")
    if not only:
        with open(os.path.join(out, "result.md"), "w") as report:
            report.write("| fault | planted in | cases | red | for example |\n|---|---|---|---|---|\n")
            report.write("\n".join(lines) + "\n")
    print(f"after {time.time() - began:.0f} s")
    print(f"{good} passed, {bad} failed, 0 skipped")
    sys.exit(1 if bad else 0)


main()
