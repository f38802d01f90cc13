// The packages as somebody else meets them: what they say of themselves, and a program that knows nothing of this tree
// but a folder of packages. They are packed from what has been built; nothing is built anew but that program.
using System.Diagnostics;
using System.IO.Compression;
using System.Xml.Linq;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AspNetCore;

public sealed class PackageTests
{
    private const string Program = """
        using Weir.Server;
        using Weir.AspNetCore;

        var options = new AppServerOptions { Concurrency = Concurrency.ThreadPool(threads: 2, queue: 2) };
        options.Listen.Add("127.0.0.1:0");
        using var own = new AppServer(options);
        own.Start((request, response) => response.Write("Hello World"));
        using var client = new HttpClient();
        Console.WriteLine("AppServer: " + await client.GetStringAsync($"http://127.0.0.1:{own.Port}/"));

        WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
        builder.Logging.ClearProviders();
        builder.WebHost.UseWeir().UseUrls("http://127.0.0.1:0");
        await using WebApplication app = builder.Build();
        app.MapGet("/{name}", (string name) => $"hello {name}");
        await app.StartAsync();
        Console.WriteLine("UseWeir: " + await client.GetStringAsync(app.Urls.First() + "/weir"));
        """;

    private const string Project = """
        <Project Sdk="Microsoft.NET.Sdk.Web">
          <PropertyGroup>
            <TargetFramework>net10.0</TargetFramework>
            <Nullable>enable</Nullable>
            <ImplicitUsings>enable</ImplicitUsings>
            <NuGetAudit>false</NuGetAudit>
          </PropertyGroup>
          <ItemGroup>
            <PackageReference Include="Weir.AspNetCore" Version="*" />
            <PackageReference Include="Weir.Server" Version="*" />
          </ItemGroup>
        </Project>
        """;

    /// <summary>Ours from the folder; there is nothing else.</summary>
    private const string Sources = """
        <configuration>
          <packageSources>
            <clear />
            <add key="packed" value="packages" />
          </packageSources>
        </configuration>
        """;

    [Fact]
    public async Task A_program_elsewhere_builds_with_the_packages_and_serves()
    {
        using var directory = new TempDir();
        string packages = directory.At("packages");
        await DotnetAsync(Root(), "msbuild", "tools/packages.proj", "-v:q", "-nologo", "-p:To=" + packages);
        CheckPackages(packages);
        directory.Write("Directory.Build.props", "<Project />");
        directory.Write("nuget.config", Sources);
        directory.Write("consumer.csproj", Project);
        directory.Write("Program.cs", Program);
        await DotnetAsync(directory.Path, "build", "-v", "q", "-nologo", "-o", directory.At("out"));
        // The package's own wish for the program that uses it: threads of the pool sleep at once (docs/aspnetcore.md).
        Assert.Contains("\"System.Threading.ThreadPool.UnfairSemaphoreSpinLimit\": 0",
            await File.ReadAllTextAsync(directory.At("out/consumer.runtimeconfig.json")));
        string said = await DotnetAsync(directory.Path, directory.At("out/consumer.dll"));
        Assert.Equal("AppServer: Hello World\nUseWeir: hello weir\n", said);
    }

    /// <summary>Every library says who made it, under which terms, and brings its documentation.</summary>
    private static void CheckPackages(string folder)
    {
        string[] files = Directory.GetFiles(folder, "*.nupkg");
        string[] ids = [.. files.Select(static f => Path.GetFileName(f).Split(".0")[0])];
        Assert.Superset(new HashSet<string> { "Weir.Server", "Weir.AspNetCore", "Weir.Testing", "Weir.Http" },
            ids.ToHashSet());
        foreach (string file in files)
        {
            using ZipArchive package = ZipFile.OpenRead(file);
            ZipArchiveEntry spec = package.Entries.Single(static e => e.FullName.EndsWith(".nuspec"));
            using Stream text = spec.Open();
            XElement metadata = XDocument.Load(text).Root!.Elements()
                .Single(static e => e.Name.LocalName == "metadata");
            string Of(string name) => metadata.Elements().Single(e => e.Name.LocalName == name).Value;
            Assert.Equal("MIT", Of("license"));
            Assert.Equal("README.md", Of("readme"));
            Assert.Equal("Weir contributors", Of("authors"));
            Assert.NotEqual("Package Description", Of("description"));
            // No address that nobody answers at.
            Assert.DoesNotContain(metadata.Descendants(), static e => e.Name.LocalName == "projectUrl");
            Assert.DoesNotContain(metadata.Descendants().Attributes("url"), static _ => true);
            Assert.Contains(package.Entries, static e => e.FullName == "README.md");
            Assert.Contains(package.Entries, e => e.FullName == $"lib/net10.0/{Of("id")}.xml");
        }
    }

    private static async Task<string> DotnetAsync(string where, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", arguments)
        {
            WorkingDirectory = where,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        // What this test process was started with is not the other program's.
        foreach (string name in start.Environment.Keys.Where(static k => k.StartsWith("MSBUILD")).ToArray())
        {
            start.Environment.Remove(name);
        }
        if (where != Root())
        {
            // Not the cache of this machine, which keeps an older package of the same version.
            start.Environment["NUGET_PACKAGES"] = Path.Combine(where, "restored");
        }
        start.Environment["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1";
        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, $"dotnet {string.Join(' ', arguments)}\n{output}\n{await errors}");
        return output;
    }

    private static string Root()
    {
        string at = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(at, "Weir.slnx")))
        {
            at = Path.GetDirectoryName(at) ?? throw new InvalidOperationException("Weir.slnx is not above the test");
        }
        return at;
    }
}
