// The laboratory in the browser: a page served by Weir itself, one session at a time, asked for by polling. Only local
// pages may start runs: a request that changes something carries a field of our own, which a foreign page cannot send.
using System.Globalization;
using System.Text;
using System.Text.Json;
using Weir.Server;

namespace Weir.Lab;

internal sealed class LabWeb
{
    private readonly Lock _gate = new();
    private readonly byte[] _page = Page();
    private readonly CancellationToken _stop;
    private readonly bool _onlyLocal;
    private LabSession _session;
    private LabOptions _options;
    private CancellationTokenSource? _running;
    private int _sessions;

    private LabWeb(LabOptions options, CancellationToken stop)
    {
        _options = options;
        _stop = stop;
        _session = new LabSession(LabPlan.Of(options.Experiments.First(), options));
        _onlyLocal = options.Listens.All(static l => l.StartsWith("127.", StringComparison.Ordinal)
            || l.StartsWith("[::1]", StringComparison.Ordinal) || l.StartsWith("localhost", StringComparison.Ordinal));
    }

    /// <summary>Serves until it is told to stop.</summary>
    /// <exception cref="IOException">The address cannot be had.</exception>
    public static async Task<int> RunAsync(LabOptions options, CancellationToken stop)
    {
        var web = new LabWeb(options, stop);
        var serve = new AppServerOptions
        {
            Concurrency = Concurrency.EventDrivenWithTaskPool(1),
            StopTimeout = TimeSpan.FromSeconds(1),
            Metrics = false,
        };
        foreach (string listen in options.Listens)
        {
            serve.Listen.Add(listen.All(char.IsAsciiDigit) ? "*:" + listen : listen);
        }
        await using var server = new AppServer(serve);
        server.Start(web.HandleAsync);
        Console.Error.WriteLine($"The laboratory is on http://localhost:{server.Port}/. Stop it with Ctrl-C.");
        var stopped = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using CancellationTokenRegistration registration = stop.Register(() => stopped.TrySetResult());
        await stopped.Task;
        return 0;
    }

    private Task HandleAsync(AppRequest request, AppResponse response)
    {
        response.Headers["Cache-Control"] = "no-store";
        response.Headers["X-Content-Type-Options"] = "nosniff";
        if (_onlyLocal && request.Host is not ("localhost" or "127.0.0.1" or "[::1]" or "::1"))
        {
            return Refuse(response, 403, "this page is for localhost");
        }
        bool isPost = request.Method == "POST";
        if (isPost && request.Headers["X-Weir-Lab"] is null)
        {
            return Refuse(response, 403, "the page sends X-Weir-Lab");
        }
        switch (request.Path)
        {
            case "/" when !isPost:
                response.ContentType = "text/html; charset=utf-8";
                response.Headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; "
                    + "script-src 'unsafe-inline'; connect-src 'self'; img-src data: 'self'";
                response.Write(_page);
                break;
            case "/state" when !isPost:
                response.ContentType = "application/json";
                response.Write(State(request));
                break;
            case "/run" when isPost:
                return Begin(request) is { } wrong ? Refuse(response, 400, wrong) : Done(response);
            case "/stop" when isPost:
                lock (_gate)
                {
                    _running?.Cancel();
                }
                return Done(response);
            case "/result.json" when !isPost:
                response.ContentType = "application/json";
                response.Headers["Content-Disposition"] = $"attachment; filename=\"lab-{_session.Plan.Name}.json\"";
                response.Write(LabJson.Result(_session.Plan, _session.Views()));
                break;
            case "/result.svg" when !isPost:
                response.ContentType = "image/svg+xml";
                response.Headers["Content-Disposition"] = $"attachment; filename=\"lab-{_session.Plan.Name}.svg\"";
                response.Write(LabSvg.File(_session.Plan.Title, _session.Plan.Question, _session.Views()));
                break;
            default:
                return Refuse(response, 404, "nothing here");
        }
        return Task.CompletedTask;
    }

    private static Task Refuse(AppResponse response, int status, string why)
    {
        response.StatusCode = status;
        response.ContentType = "text/plain; charset=utf-8";
        response.Write(why);
        return Task.CompletedTask;
    }

    private static Task Done(AppResponse response)
    {
        response.StatusCode = 204;
        return Task.CompletedTask;
    }

    /// <summary>Starts what the form says; what is wrong with it, or null.</summary>
    private string? Begin(AppRequest request)
    {
        var values = new Dictionary<string, string>();
        var switches = new HashSet<string>();
        foreach (VerbOption option in LabVerb.Options)
        {
            if (option.Name is "--web" or "--json" or "--svg"
                || request.QueryValue(option.Name[2..]) is not { Length: > 0 } value)
            {
                continue;
            }
            if (option.Value is null)
            {
                switches.Add(option.Name);
            }
            else
            {
                values.Add(option.Name, value);
            }
        }
        string experiment = request.QueryValue("experiment") ?? "compare";
        LabOptions? options = LabOptions.Read(experiment, values, switches, out (string Text, string? Hint) wrong);
        if (options is null)
        {
            return wrong.Hint is { } hint ? $"{wrong.Text}: {hint}" : wrong.Text;
        }
        lock (_gate)
        {
            if (_running is not null && !_session.IsOver)
            {
                return "an experiment is running";
            }
            _running?.Dispose();
            _running = CancellationTokenSource.CreateLinkedTokenSource(_stop);
            _options = options;
            _session = new LabSession(LabPlan.Of(experiment, options));
            _sessions++;
            // Nobody waits for it: its end is seen in its state.
            _ = _session.RunAsync(_running.Token);
        }
        return null;
    }

    private byte[] State(AppRequest request)
    {
        int width = int.TryParse(request.QueryValue("width"), NumberStyles.None, CultureInfo.InvariantCulture,
            out int asked) ? Math.Clamp(asked, 240, 4000) : 900;
        LabSession session;
        int number;
        lock (_gate)
        {
            session = _session;
            number = _sessions;
        }
        string state = session.IsOver ? "over" : number == 0 ? "ready" : "running";
        string version = string.Create(CultureInfo.InvariantCulture, $"{number}-{state}-{width}");
        bool same = state != "running" && request.QueryValue("seen") == version;
        return LabJson.Write(json =>
        {
            json.WriteStartObject();
            json.WriteString("version", version);
            json.WriteString("state", state);
            if (!same)
            {
                Write(json, session, width);
            }
            json.WriteEndObject();
        });
    }

    private static void Write(Utf8JsonWriter json, LabSession session, int width)
    {
        json.WriteString("experiment", session.Plan.Name);
        json.WriteString("title", session.Plan.Title);
        json.WriteString("question", session.Plan.Question);
        json.WriteStartArray("runs");
        foreach (LabView view in session.Views())
        {
            LabFigures figures = LabFigures.Of(view);
            json.WriteStartObject();
            json.WriteString("title", view.Spec.Title);
            json.WriteString("model", view.Spec.Model);
            json.WriteString("state", view.State switch
            {
                LabState.Waiting => "waiting",
                LabState.Preparing => "preparing",
                LabState.Running => "running",
                LabState.Done => "done",
                _ => "failed",
            });
            json.WriteString("sentence", LabSentence.Of(view, figures));
            json.WriteString("costs", view.State == LabState.Done ? LabSentence.Costs(figures) : "");
            LabJson.Counters(json, view);
            json.WriteString("svg", LabSvg.Inline(view, width));
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private static byte[] Page()
    {
        using Stream stream = typeof(LabWeb).Assembly.GetManifestResourceStream("lab.html")
            ?? throw new InvalidOperationException("the page is not in the binary");
        using var reader = new StreamReader(stream, Encoding.UTF8);
        var experiments = new StringBuilder();
        foreach (string name in (string[])[.. LabPlan.Names, LabPlan.All])
        {
            experiments.Append(CultureInfo.InvariantCulture,
                $"<option value=\"{name}\">{LabPlan.Of(name, new LabOptions()).Title}</option>");
        }
        var models = new StringBuilder();
        foreach (string model in LabPlan.Models)
        {
            string on = model == LabPlan.Models[^1] ? "" : " checked";
            models.Append(CultureInfo.InvariantCulture,
                $"<label class=\"check\"><input type=\"checkbox\" name=\"models\" value=\"{model}\"{on}>")
                .Append(CultureInfo.InvariantCulture, $"{model}</label>");
        }
        string page = reader.ReadToEnd()
            .Replace("%EXPERIMENTS%", experiments.ToString())
            .Replace("%MODELS%", models.ToString())
            .Replace("%STYLES%", LabSvg.Css);
        return Encoding.UTF8.GetBytes(page);
    }
}
