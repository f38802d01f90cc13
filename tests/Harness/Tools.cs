// What a machine may lack: tests that need a tool carry it in their attribute and are skipped, visibly, without it.
using Xunit;

namespace Weir.Tests.Harness;

/// <summary>Finds the programs that tests start.</summary>
public static class Tools
{
    private static readonly string[] _folders =
    [
        .. (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries),
        "/usr/sbin", "/usr/bin", "/sbin", "/bin",
    ];

    /// <summary>The path of a program, or null. Knows "php-fpm" whatever version its name carries, and
    /// "flask" and "grpc" for Python, "grpc-js" for Node.</summary>
    public static string? Find(string name) => name switch
    {
        // Not a program, but what some tests need as well.
        "root" => Environment.UserName == "root" ? "/" : null,
        "flask" => Find("gunicorn") is null ? null : DebianModule("flask"),
        "grpc" => DebianModule("grpc"),
        "grpc-js" => NodeModule("@grpc/grpc-js"),
        "php-fpm" => FirstFile("php-fpm") ?? Directory.GetFiles("/usr/sbin", "php-fpm*").Order().LastOrDefault(),
        // Debian's own, not one of a version manager: its modules come from Debian too.
        "gunicorn" => File.Exists("/usr/bin/gunicorn") ? "/usr/bin/gunicorn" : FirstFile(name),
        _ => FirstFile(name),
    };

    public static string Require(string name) =>
        Find(name) ?? throw new InvalidOperationException($"{name} is not installed; ./test installs it");

    internal static string? Missing(string[] names)
    {
        string[] missing = names.Where(n => Find(n) is null).ToArray();
        return missing.Length == 0 ? null : "needs " + string.Join(", ", missing);
    }

    private static string? FirstFile(string name) =>
        _folders.Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);

    /// <summary>What ./test fetches with npm.</summary>
    private static string? NodeModule(string name)
    {
        string? directory = AppContext.BaseDirectory;
        while (directory is not null && !File.Exists(Path.Combine(directory, "Weir.slnx")))
        {
            directory = Path.GetDirectoryName(directory);
        }
        string path = Path.Combine(directory ?? ".", "artifacts/node/node_modules", name);
        return File.Exists(Path.Combine(path, "package.json")) ? path : null;
    }

    private static string? DebianModule(string name)
    {
        string path = $"/usr/lib/python3/dist-packages/{name}/__init__.py";
        return File.Exists("/usr/bin/python3") && File.Exists(path) ? path : null;
    }
}

/// <summary>A test that needs programs: [NeedsFact("nginx", "curl")].</summary>
public sealed class NeedsFactAttribute : FactAttribute
{
    public NeedsFactAttribute(params string[] tools)
    {
        if (Tools.Missing(tools) is { } reason)
        {
            Skip = reason;
        }
    }
}

/// <summary>The same for a theory.</summary>
public sealed class NeedsTheoryAttribute : TheoryAttribute
{
    public NeedsTheoryAttribute(params string[] tools)
    {
        if (Tools.Missing(tools) is { } reason)
        {
            Skip = reason;
        }
    }
}
