// Who may know whom: every project reference under src/ stands in this table, which is that of docs/ARCHITECTURE.md.
// A new arrow is a change of this file, with its reason written beside it.
using System.Xml.Linq;
using Xunit;

namespace Weir.Tests.Tidy;

public sealed class ArrowTests
{
    private static readonly Dictionary<string, string[]> _allowed = new()
    {
        ["Weir.Kernel"] = [],
        ["Weir.Protocol"] = [],
        ["Weir.Conf"] = [],
        ["Weir.Loop"] = ["Weir.Kernel"],
        ["Weir.Zones"] = ["Weir.Kernel"],
        ["Weir.Tls"] = ["Weir.Kernel", "Weir.Loop"],
        ["Weir.Session"] = ["Weir.Loop", "Weir.Tls", "Weir.Zones", "Weir.Conf", "Weir.Protocol", "Weir.Kernel"],
        ["Weir.Http"] =
            ["Weir.Session", "Weir.Loop", "Weir.Tls", "Weir.Zones", "Weir.Conf", "Weir.Protocol", "Weir.Kernel"],
        ["Weir.Process"] = ["Weir.Kernel", "Weir.Loop", "Weir.Zones", "Weir.Conf"],
        ["Weir.Server"] =
        [
            "Weir.Http", "Weir.Session", "Weir.Loop", "Weir.Tls", "Weir.Zones", "Weir.Conf", "Weir.Protocol",
            "Weir.Kernel",
        ],
        ["Weir.AspNetCore"] = ["Weir.Server"],
        // The package that operators' tests use: the server, and the engine, addresses and errors below it.
        ["Weir.Testing"] =
        [
            "Weir.Server", "Weir.Http", "Weir.Session", "Weir.Loop", "Weir.Conf", "Weir.Kernel", "Weir.Zones",
        ],
        ["Weir"] = ["Weir.Server", "Weir.Process"],
    };

    public static TheoryData<string> Projects()
    {
        var data = new TheoryData<string>();
        foreach (SourceFile file in Tree.Files.Where(f => f.IsUnder("src") && f.Path.EndsWith(".csproj")))
        {
            data.Add(file.Path);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Projects))]
    public void A_project_knows_only_the_projects_below_it(string path)
    {
        string name = Path.GetFileNameWithoutExtension(path);
        Assert.True(_allowed.TryGetValue(name, out string[]? allowed), $"{name} has no row in the table of arrows");
        Tree.None("an arrow that is not in the table", References(path)
            .Where(to => !allowed!.Contains(to))
            .Select(to => $"{name} -> {to}"));
    }

    [Theory]
    [MemberData(nameof(Projects))]
    public void A_product_project_takes_no_package(string path)
    {
        // The one package of the product is the command line's, and only the executable sees it.
        string[] allowed = path == "src/Weir/Weir.csproj" ? ["System.CommandLine"] : [];
        Tree.None("a package that the product does not need", Items(path, "PackageReference")
            .Where(package => !allowed.Contains(package))
            .Select(package => $"{path}: {package}"));
    }

    [Fact]
    public void Every_project_is_in_the_solution()
    {
        string solution = File.ReadAllText(Path.Combine(Tree.Root, "Weir.slnx"));
        Tree.None("a project that Weir.slnx does not build", Tree.Files
            .Where(f => f.Path.EndsWith(".csproj") && !f.IsUnder("bench") && !f.IsUnder("samples"))
            .Select(f => f.Path)
            .Where(path => !solution.Contains($"\"{path}\"", StringComparison.Ordinal)));
    }

    [Fact]
    public void Imports_of_native_code_stand_in_Kernel_Tls_and_the_codecs_only()
    {
        Tree.None("a native import outside of Kernel, Tls and the codecs", Tree.CSharp
            .Where(f => f.IsUnder("src") && !f.IsUnder("src/Weir.Kernel") && !f.IsUnder("src/Weir.Tls"))
            .SelectMany(f => f.Lines.Select((line, i) => (f, line, i)))
            .Where(x => x.line.Contains("DllImport") || (x.line.Contains("LibraryImport(") && !IsCodec(x.f.Path)))
            .Select(x => $"{x.f.Path}:{x.i + 1}: {x.line.Trim()}"));
    }

    // PCRE2 and the compression libraries are bound where they are used, and nowhere else.
    private static bool IsCodec(string path)
    {
        string name = Path.GetFileNameWithoutExtension(path);
        return name.StartsWith("Pcre", StringComparison.Ordinal) || name.StartsWith("Zlib", StringComparison.Ordinal)
            || name.StartsWith("Brotli", StringComparison.Ordinal) || name.StartsWith("Zstd", StringComparison.Ordinal);
    }

    private static IEnumerable<string> References(string path) =>
        Items(path, "ProjectReference").Select(include => Path.GetFileNameWithoutExtension(include.Replace('\\', '/')));

    private static IEnumerable<string> Items(string path, string element) =>
        XDocument.Load(Path.Combine(Tree.Root, path)).Descendants(element)
            .Select(e => (string?)e.Attribute("Include") ?? "");
}
