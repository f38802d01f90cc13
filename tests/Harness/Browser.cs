// A real Chromium without a window, driven over its own debugging protocol (JSON over a WebSocket), so that tests of
// pages need no package: open, evaluate, press keys, change the size and the colours, take a picture.
using System.Globalization;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Weir.Tests.Harness;

/// <summary>A browser with one page. One caller at a time.</summary>
public sealed class Browser : IDisposable
{
    private const int TimeoutMs = 60_000;

    private readonly TempDir _home = new();
    private readonly ChildProcess _process;
    private readonly ClientWebSocket _socket = new();
    private int _calls;

    public Browser(params string[] arguments)
    {
        _process = new ChildProcess(Tools.Require("chromium"), ["--headless=new", "--no-sandbox", "--disable-gpu",
            "--disable-dev-shm-usage", "--user-data-dir=" + _home.Path, "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--remote-debugging-port=0", .. arguments, "about:blank"]);
        try
        {
            string file = _home.At("DevToolsActivePort");
            Wait.For("the browser", () => File.Exists(file) && File.ReadAllLines(file).Length > 1, TimeoutMs);
            string port = File.ReadAllLines(file)[0];
            using var http = new HttpClient { Timeout = TimeSpan.FromMilliseconds(TimeoutMs) };
            string? page = null;
            Wait.For("its page", () => (page = PageOf(http.GetStringAsync(
                $"http://127.0.0.1:{port}/json/list").GetAwaiter().GetResult())) is not null, TimeoutMs);
            Await(_socket.ConnectAsync(new Uri(page!), CancellationToken.None));
            Call("Page.enable", []);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Loads a page and waits until its scripts have begun.</summary>
    public void Open(string url)
    {
        Call("Page.navigate", new JsonObject { ["url"] = url });
        WaitFor($"location.href !== 'about:blank' && document.readyState === 'complete'");
    }

    /// <summary>A browser with this page.</summary>
    public static Task<Browser> OpenAsync(string url, params string[] arguments) => Task.Run(() =>
    {
        var browser = new Browser(arguments);
        try
        {
            browser.Open(url);
            return browser;
        }
        catch
        {
            browser.Dispose();
            throw;
        }
    });

    /// <summary>What an expression is in the page, as text.</summary>
    public Task<string> EvaluateAsync(string expression) => Task.Run(() => Text($"String({expression})"));

    /// <summary>Waits until an expression is true in the page.</summary>
    public Task WaitForAsync(string expression) => Task.Run(() => WaitFor($"String({expression}) === 'true'"));

    /// <summary>The value of an expression; a promise is awaited.</summary>
    public JsonNode? Evaluate(string expression)
    {
        JsonNode answer = Call("Runtime.evaluate", new JsonObject
        {
            ["expression"] = expression,
            ["returnByValue"] = true,
            ["awaitPromise"] = true,
        });
        return answer["exceptionDetails"] is { } wrong
            ? throw new InvalidOperationException($"{expression}: {wrong.ToJsonString()}")
            : answer["result"]?["value"]?.DeepClone();
    }

    public string Text(string expression) => Evaluate(expression)?.ToString() ?? "";

    public int Number(string expression) =>
        (int)double.Parse(Text(expression), CultureInfo.InvariantCulture);

    public void WaitFor(string condition) => Wait.For(condition, () =>
    {
        try
        {
            return Evaluate(condition)?.ToString() == "true";
        }
        catch (InvalidOperationException)
        {
            // Between two pages there is nothing to ask.
            return false;
        }
    }, TimeoutMs);

    public void Resize(int width, int height) => Call("Emulation.setDeviceMetricsOverride", new JsonObject
    {
        ["width"] = width,
        ["height"] = height,
        ["deviceScaleFactor"] = 1,
        ["mobile"] = false,
    });

    public void Dark(bool dark) => Call("Emulation.setEmulatedMedia", new JsonObject
    {
        ["features"] = new JsonArray(new JsonObject
        {
            ["name"] = "prefers-color-scheme",
            ["value"] = dark ? "dark" : "light",
        }),
    });

    /// <summary>Tab, Enter, ArrowDown, ArrowUp, Home, End or Space.</summary>
    public void Press(string key)
    {
        int code = key switch
        {
            "Tab" => 9,
            "Enter" => 13,
            "Space" => 32,
            "End" => 35,
            "Home" => 36,
            "ArrowUp" => 38,
            "ArrowDown" => 40,
            _ => throw new ArgumentException("unknown key " + key),
        };
        foreach (string type in new[] { "keyDown", "keyUp" })
        {
            var press = new JsonObject
            {
                ["type"] = type,
                ["key"] = key == "Space" ? " " : key,
                ["code"] = key,
                ["windowsVirtualKeyCode"] = code,
            };
            if (type == "keyDown" && key is "Enter" or "Space")
            {
                press["text"] = key == "Enter" ? "\r" : " ";
            }
            Call("Input.dispatchKeyEvent", press);
        }
    }

    /// <summary>Types into what has the focus.</summary>
    public void Type(string text) => Call("Input.insertText", new JsonObject { ["text"] = text });

    /// <summary>The whole page as a PNG.</summary>
    public void Picture(string path)
    {
        int width = Number("innerWidth"), height = Number("innerHeight");
        Resize(width, Number("document.documentElement.scrollHeight"));
        JsonNode answer = Call("Page.captureScreenshot", new JsonObject { ["format"] = "png" });
        Resize(width, height);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, Convert.FromBase64String(answer["data"]!.ToString()));
    }

    public void Dispose()
    {
        _socket.Dispose();
        _process.Stop(Signal.Term, 5000);
        _process.Dispose();
        _home.Dispose();
    }

    private JsonNode Call(string method, JsonObject parameters)
    {
        int id = ++_calls;
        var message = new JsonObject { ["id"] = id, ["method"] = method, ["params"] = parameters };
        using var stop = new CancellationTokenSource(TimeoutMs);
        Await(_socket.SendAsync(Encoding.UTF8.GetBytes(message.ToJsonString()), WebSocketMessageType.Text, true,
            stop.Token));
        while (true)
        {
            JsonNode answer = JsonNode.Parse(Receive(stop.Token))!;
            if (answer["id"]?.GetValue<int>() != id)
            {
                continue;
            }
            return answer["error"] is { } error
                ? throw new InvalidOperationException($"{method}: {error.ToJsonString()}")
                : answer["result"]!;
        }
    }

    private byte[] Receive(CancellationToken stop)
    {
        using var whole = new MemoryStream();
        byte[] buffer = new byte[65536];
        while (true)
        {
            Task<WebSocketReceiveResult> receiving = _socket.ReceiveAsync(new ArraySegment<byte>(buffer), stop);
            WebSocketReceiveResult got = receiving.GetAwaiter().GetResult();
            whole.Write(buffer, 0, got.Count);
            if (got.EndOfMessage)
            {
                return whole.ToArray();
            }
        }
    }

    private static string? PageOf(string list)
    {
        using JsonDocument pages = JsonDocument.Parse(list);
        foreach (JsonElement page in pages.RootElement.EnumerateArray())
        {
            if (page.GetProperty("type").GetString() == "page")
            {
                return page.GetProperty("webSocketDebuggerUrl").GetString();
            }
        }
        return null;
    }

    private static void Await(Task task) => task.GetAwaiter().GetResult();
}
