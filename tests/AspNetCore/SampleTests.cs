// The sample application as its own process: from HttpClient, and from Chromium, which runs its page.
using System.Net.Http.Json;
using System.Text.RegularExpressions;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AspNetCore;

public sealed partial class SampleTests : IDisposable
{
    private sealed record Message(string Name, string Text);

    private readonly TempDir _data = new();
    private readonly List<ChildProcess> _processes = [];

    /// <summary>Starts it on an address; the certificate for https:// is the developer's, in a directory of the
    /// test's.</summary>
    private string Start(string address, bool byEnvironment = false)
    {
        string source = SampleDirectory();
        var environment = new Dictionary<string, string>
        {
            ["XDG_DATA_HOME"] = _data.Path,
            ["ASPNETCORE_ENVIRONMENT"] = "Development",
        };
        string[] words = [BuiltSample(), "--contentRoot", source];
        if (byEnvironment)
        {
            environment["ASPNETCORE_URLS"] = address;
        }
        else
        {
            words = [.. words, "--urls", address];
        }
        var process = new ChildProcess("dotnet", words, source, environment);
        _processes.Add(process);
        string url = "";
        Wait.For("the sample to listen", () =>
        {
            Match match = ListeningLine().Match(process.Output);
            url = match.Groups[1].Value;
            return match.Success || process.HasExited;
        });
        Assert.True(url.Length > 0, process.Output + process.Errors);
        return url;
    }

    public void Dispose()
    {
        _processes.ForEach(static p => p.Dispose());
        _data.Dispose();
    }

    [Fact]
    public async Task The_api_the_page_and_the_upload_answer()
    {
        string url = Start("http://127.0.0.1:0", byEnvironment: true);
        using var client = new HttpClient { BaseAddress = new Uri(url) };
        Assert.Contains("<h1>Chat on Weir</h1>", await client.GetStringAsync("/"));
        using HttpResponseMessage said = await client.PostAsJsonAsync("/api/messages", new Message("a", "b"));
        Assert.Equal(System.Net.HttpStatusCode.Created, said.StatusCode);
        Assert.Equal(new Message("a", "b"), (await client.GetFromJsonAsync<Message[]>("/api/messages"))!.Single());
        Assert.Contains("1 messages", await client.GetStringAsync("/status"));
        using var upload = new MultipartFormDataContent { { new ByteArrayContent(new byte[50_000]), "f", "n.bin" } };
        using HttpResponseMessage uploaded = await client.PostAsync("/api/upload", upload);
        Assert.Contains("50000", await uploaded.Content.ReadAsStringAsync());
        using Stream clock = await client.GetStreamAsync("/api/clock");
        using var reader = new StreamReader(clock);
        Assert.StartsWith("data: 2", await reader.ReadLineAsync());
    }

    [NeedsTheory("chromium")]
    [InlineData("http", "http/1.1")]
    [InlineData("https", "h2")]
    public async Task A_browser_joins_the_chat_and_sees_what_it_says(string scheme, string protocol)
    {
        string url = Start(scheme + "://127.0.0.1:0");
        using var client = new HttpClient(Hosted.AnyCertificate()) { BaseAddress = new Uri(url) };
        using HttpResponseMessage before = await client.PostAsJsonAsync("/api/messages", new Message("x", "before"));
        using Browser browser = await Browser.OpenAsync(url + "/#from-the-browser", "--ignore-certificate-errors");
        await browser.WaitForAsync("document.body.dataset.state === 'joined'");
        await browser.WaitForAsync("[...document.querySelectorAll('li')].some(l => l.textContent === 'xbefore')");
        await browser.WaitForAsync("document.body.innerText.includes('from-the-browser')");
        Assert.Equal(protocol, await browser.EvaluateAsync(
            "performance.getEntriesByType('navigation')[0].nextHopProtocol"));
        Assert.Contains(await client.GetFromJsonAsync<Message[]>("/api/messages") ?? [],
            static m => m.Text == "from-the-browser");
    }

    /// <summary>This assembly lies in artifacts/…/bin/AspNetCore/CONFIGURATION, the sample's beside it.</summary>
    private static string BuiltSample()
    {
        string here = AppContext.BaseDirectory.TrimEnd('/');
        string bin = Path.GetDirectoryName(Path.GetDirectoryName(here)!)!;
        return Path.Combine(bin, "Chat", Path.GetFileName(here), "Chat.dll");
    }

    private static string SampleDirectory()
    {
        string? directory = AppContext.BaseDirectory;
        while (directory is not null && !File.Exists(Path.Combine(directory, "Weir.slnx")))
        {
            directory = Path.GetDirectoryName(directory);
        }
        return Path.Combine(directory!, "samples", "aspnetcore");
    }

    [GeneratedRegex("Now listening on: (https?://[^ \\n]+)")]
    private static partial Regex ListeningLine();
}
