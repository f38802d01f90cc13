// A Chromium without a window that a test drives through its debugging port: opens a page, evaluates expressions in it
// until they say what is wanted. One page per browser; dispose ends the process.
using System.Net.WebSockets;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Weir.Tests.Harness;

/// <summary>A headless browser with one page.</summary>
public sealed partial class Browser : IDisposable
{
    private readonly TempDir _profile = new();
    private readonly ChildProcess _process;
    private readonly ClientWebSocket _socket = new();
    private int _calls;

    private Browser(string url) => _process = new ChildProcess(Tools.Require("chromium"),
    [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
        "--user-data-dir=" + _profile.Path, url,
    ]);

    public static async Task<Browser> OpenAsync(string url)
    {
        var browser = new Browser(url);
        Uri? devTools = null;
        Wait.For("Chromium to listen", () =>
        {
            Match match = DevToolsLine().Match(browser._process.Errors);
            devTools = match.Success ? new Uri(match.Groups[1].Value) : null;
            return match.Success || browser._process.HasExited;
        }, 60_000);
        if (devTools is null)
        {
            throw new InvalidOperationException("Chromium ended: " + browser._process.Errors);
        }
        using var client = new HttpClient();
        using JsonDocument pages = JsonDocument.Parse(
            await client.GetStringAsync($"http://127.0.0.1:{devTools.Port}/json/list"));
        string page = pages.RootElement.EnumerateArray()
            .First(static p => p.GetProperty("type").GetString() == "page")
            .GetProperty("webSocketDebuggerUrl").GetString()!;
        await browser._socket.ConnectAsync(new Uri(page), default);
        return browser;
    }

    /// <summary>What an expression is in the page, as text.</summary>
    public async Task<string> EvaluateAsync(string expression)
    {
        int id = ++_calls;
        string call = JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["id"] = id,
            ["method"] = "Runtime.evaluate",
            ["params"] = new Dictionary<string, object> { ["expression"] = $"String({expression})" },
        });
        await _socket.SendAsync(Encoding.UTF8.GetBytes(call), WebSocketMessageType.Text, true, default);
        while (true)
        {
            using JsonDocument answer = JsonDocument.Parse(await ReceiveAsync());
            if (answer.RootElement.TryGetProperty("id", out JsonElement answered) && answered.GetInt32() == id)
            {
                return answer.RootElement.GetProperty("result").GetProperty("result").TryGetProperty("value",
                    out JsonElement value) ? value.ToString() : answer.RootElement.ToString();
            }
        }
    }

    /// <summary>Waits until an expression is true in the page.</summary>
    public async Task WaitForAsync(string expression)
    {
        for (int i = 0; i < 600; i++)
        {
            if (await EvaluateAsync(expression) == "true")
            {
                return;
            }
            await Task.Delay(50);
        }
        throw new TimeoutException($"{expression} is not true in "
            + await EvaluateAsync("document.documentElement.outerHTML"));
    }

    public void Dispose()
    {
        _socket.Dispose();
        _process.Dispose();
        _profile.Dispose();
    }

    private async Task<string> ReceiveAsync()
    {
        using var message = new MemoryStream();
        byte[] buffer = new byte[16 * 1024];
        WebSocketReceiveResult got;
        using var end = new CancellationTokenSource(30_000);
        do
        {
            got = await _socket.ReceiveAsync(buffer, end.Token);
            message.Write(buffer, 0, got.Count);
        }
        while (!got.EndOfMessage);
        return Encoding.UTF8.GetString(message.ToArray());
    }

    [GeneratedRegex("DevTools listening on (ws://[^ \\s]+)")]
    private static partial Regex DevToolsLine();
}
