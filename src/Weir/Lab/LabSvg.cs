// Pictures of runs as SVG: one line per request, one mark per event. The page shows the same drawing that a file gets;
// a file carries its own colours, light and dark. Pure.
using System.Globalization;
using System.Text;

namespace Weir.Lab;

internal static class LabSvg
{
    private const int Left = 54;
    private const int Right = 14;
    private const int RowsMax = 120;
    private static readonly CultureInfo _invariant = CultureInfo.InvariantCulture;

    /// <summary>Colours of threads, in the order of their first appearance; legible on light and dark.</summary>
    private const string Styles = """
        .lab{--ink:#10252c;--soft:#50666e;--line:#d5e0e4;--ground:#fff;--wait:#c3ced3;--read:#e0a526;--bad:#c2412d}
        @media(prefers-color-scheme:dark){.lab{--ink:#e3eef1;--soft:#98b0b8;--line:#254049;--ground:#13232a;
        --wait:#46606a;--read:#b98a1f;--bad:#ff8a70}}
        .lab text{font:11px system-ui,"Noto Sans",sans-serif;fill:var(--soft)}.lab .title{font-size:15px;
        font-weight:600;fill:var(--ink)}.lab .say{font-size:12px;fill:var(--ink)}.lab .on{fill:#fff;font-size:10px}
        .lab .grid{stroke:var(--line)}.lab .queued{fill:var(--wait)}.lab .backlog{fill:none;stroke:var(--soft);
        stroke-dasharray:3 2}.lab .syn{stroke:var(--bad);stroke-dasharray:2 3;stroke-width:2}
        .lab .reading{fill:var(--read)}.lab .tick{stroke:var(--ink);stroke-width:1.5}
        .lab .bad{stroke:var(--bad);stroke-width:3}.lab .stuck{fill:var(--bad);opacity:.35}
        .t0{fill:#0b6e8f}.t1{fill:#8a4fb0}.t2{fill:#1c7c4d}.t3{fill:#b3531c}.t4{fill:#3d63c4}.t5{fill:#a83267}
        .t6{fill:#5b7a14}.t7{fill:#007a7a}.t8{fill:#7c5a3a}.t9{fill:#606a74}

        """;

    /// <summary>The colours, for a page that shows drawings.</summary>
    public static string Css => Styles;

    /// <summary>A file with everything: title, the runs with their sentences, the legend.</summary>
    public static string File(string title, string question, IReadOnlyList<LabView> views, int width = 960)
    {
        var body = new StringBuilder();
        int y = 30;
        body.Append(_invariant, $"<text class=\"title\" x=\"12\" y=\"{y}\">{Escape(title)}</text>\n");
        y = Words(body, question, y + 20, width) + 8;
        foreach (LabView view in views)
        {
            LabFigures figures = LabFigures.Of(view);
            y += 22;
            body.Append(_invariant, $"<text class=\"title\" x=\"12\" y=\"{y}\">{Escape(view.Spec.Title)}</text>\n");
            y += 6;
            int height = HeightOf(view);
            body.Append(_invariant, $"<g transform=\"translate(0 {y})\">\n");
            Draw(body, view, width);
            body.Append("</g>\n");
            y = Words(body, LabSentence.Of(view, figures), y + height + 16, width);
            y = Words(body, "Cost: " + LabSentence.Costs(figures) + ".", y, width) + 6;
        }
        Legend(body, y + 8, width, out int end);
        return string.Create(_invariant, $"<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"lab\" width=\"{width}\" ")
            + string.Create(_invariant, $"height=\"{end}\" viewBox=\"0 0 {width} {end}\" role=\"img\">")
            + $"<title>{Escape(title)}</title>\n<style>{Styles}</style>\n"
            + "<rect width=\"100%\" height=\"100%\" fill=\"var(--ground)\"/>\n" + body + "</svg>\n";
    }

    /// <summary>One run for a page, as wide as the page has room.</summary>
    public static string Inline(LabView view, int width)
    {
        int height = HeightOf(view);
        var body = new StringBuilder();
        body.Append(_invariant, $"<svg class=\"lab\" width=\"{width}\" height=\"{height}\" ");
        body.Append(_invariant, $"viewBox=\"0 0 {width} {height}\" aria-hidden=\"true\">\n");
        Draw(body, view, width);
        return body.Append("</svg>").ToString();
    }

    /// <summary>A request in words: what a screen reader or the keyboard gets.</summary>
    public static string Say(LabView view, LabRow row)
    {
        var text = new StringBuilder(Name(row));
        void At(string what, long us)
        {
            if (us != 0)
            {
                text.Append(_invariant, $", {what} {(us - view.StartUs) / 1e6:0.000} s");
            }
        }

        At("begins", row.Client.BeginUs);
        At(row.Client.Retransmits > 0 ? $"connected after {row.Client.Retransmits} more SYN" : "connected",
            row.Client.ConnectedUs);
        At("accepted", row.AcceptedUs);
        At($"thread {row.TakenBy} takes it", row.TakenUs);
        At("received", row.ReceivedUs);
        At("queued", row.QueuedUs);
        At(view.Spec.RunsOnLoop ? $"loop {row.Loop}, thread {row.Thread}, runs it" : $"thread {row.Thread} runs it",
            row.StartedUs);
        At("time is up", row.TimedOutUs);
        At("refused", row.RefusedUs);
        At("answered", row.AnsweredUs);
        At(row.Client.Status != 0 ? $"the client has {row.Client.Status}" : "the client has nothing", row.Client.EndUs);
        return text.ToString();
    }

    private static string Name(LabRow row) => row.Client.IsSlow ? $"slow client {row.Client.Number}"
        : row.Client.OnConnection > 1 ? $"request {row.Client.Number}.{row.Client.OnConnection}"
        : $"request {row.Client.Number}";

    private static int RowHeight(LabView view) => view.Rows.Length > 40 ? 7 : view.Rows.Length > 12 ? 12 : 18;

    private static int HeightOf(LabView view) =>
        (Math.Clamp(view.Rows.Length, 1, RowsMax) * RowHeight(view)) + 28;

    private static void Draw(StringBuilder body, LabView view, int width)
    {
        LabRow[] rows = [.. view.Rows.Take(RowsMax)];
        int rowHeight = RowHeight(view);
        int height = (Math.Max(rows.Length, 1) * rowHeight) + 6;
        long now = view.State == LabState.Running ? view.NowUs : 0;
        double seconds = Math.Max(0.05, (Math.Max(now, rows.Length == 0 ? 0
            : rows.Max(r => Math.Max(r.Client.EndUs, r.AnsweredUs))) - view.StartUs) / 1e6);
        if (view.State is LabState.Waiting or LabState.Preparing)
        {
            seconds = 1;
        }
        // What has not ended is drawn up to the end of the picture.
        now = view.StartUs + (long)(seconds * 1e6);
        double scale = (width - Left - Right) / seconds;
        string X(long us) => (Left + ((us - view.StartUs) / 1e6 * scale)).ToString("0.0", _invariant);
        string W(long from, long to) => Math.Max(0.5, (to - from) / 1e6 * scale).ToString("0.0", _invariant);

        Axis(body, seconds, scale, height, width);
        Dictionary<int, int> colours = [];
        foreach (LabRow row in rows.Where(static r => r.StartedUs != 0).OrderBy(static r => r.StartedUs))
        {
            colours.TryAdd(row.Thread, colours.Count % 10);
        }
        for (int i = 0; i < rows.Length; i++)
        {
            LabRow row = rows[i];
            int y = 2 + (i * rowHeight);
            int bar = rowHeight - 2;
            void Box(string kind, long from, long to, string attributes = "")
            {
                to = to != 0 ? to : now;
                if (from != 0 && to > from)
                {
                    body.Append(_invariant, $"<rect class=\"{kind}\" x=\"{X(from)}\" y=\"{y}\" ")
                        .Append(_invariant, $"width=\"{W(from, to)}\" height=\"{bar}\"{attributes}/>");
                }
            }

            void Line(string kind, long at) => body.Append(_invariant,
                $"<path class=\"{kind}\" d=\"M{X(at)} {y}v{bar}\"/>");

            body.Append(_invariant, $"<g data-row=\"{i}\"><title>{Escape(Say(view, row))}</title>");
            if (rowHeight > 8 || i % 5 == 0)
            {
                string name = row.Client.IsSlow ? $"slow {row.Client.Number}" : $"{row.Client.Number}"
                    + (row.Client.OnConnection > 1 ? $".{row.Client.OnConnection}" : "");
                body.Append(_invariant, $"<text x=\"{Left - 6}\" y=\"{y + (bar / 2) + 4}\" ")
                    .Append(_invariant, $"text-anchor=\"end\">{name}</text>");
            }
            ClientMark c = row.Client;
            long connected = c.ConnectedUs != 0 ? c.ConnectedUs : c.EndUs != 0 ? c.EndUs : now;
            if (c.BeginUs != 0 && connected - c.BeginUs > 100_000)
            {
                body.Append(_invariant, $"<path class=\"syn\" d=\"M{X(c.BeginUs)} {y + (bar / 2)}H{X(connected)}\"/>");
            }
            Box("backlog", c.OnConnection == 1 ? c.ConnectedUs : 0, row.AcceptedUs != 0 ? row.AcceptedUs : c.EndUs);
            long waits = row.ReceivedUs != 0 && row.TakenUs == 0 ? row.ReceivedUs : row.AcceptedUs;
            long served = row.TakenUs != 0 && c.OnConnection == 1 ? row.TakenUs : row.StartedUs;
            Box("queued", row.QueuedUs != 0 || row.TakenUs != 0 ? waits : row.ReceivedUs,
                served != 0 ? served : Ended(row));
            if (c.OnConnection == 1)
            {
                long from = row.TakenUs != 0 ? row.TakenUs : c.IsSlow && row.Loop >= 0 ? row.AcceptedUs : 0;
                Box(row.TakenUs != 0 ? "reading" : "backlog", from, row.ReceivedUs != 0 ? row.ReceivedUs
                    : row.ClosedUs != 0 ? row.ClosedUs : c.EndUs);
            }
            string who = string.Create(_invariant, $" data-thread=\"{row.Thread}\" data-loop=\"{row.Loop}\" ")
                + string.Create(_invariant, $"data-us=\"{row.StartedUs - view.StartUs}\" ")
                + string.Create(_invariant, $"data-end=\"{Math.Max(0, row.EndedUs - view.StartUs)}\"");
            string colour = "t" + colours.GetValueOrDefault(row.Thread).ToString(_invariant);
            Box("run " + colour, row.StartedUs, row.EndedUs, who);
            Box("stuck", row.TimedOutUs, row.CameBackUs);
            if (row.StartedUs != 0 && rowHeight >= 12
                && ((row.EndedUs != 0 ? row.EndedUs : now) - row.StartedUs) / 1e6 * scale > 70)
            {
                body.Append(_invariant, $"<text class=\"on\" x=\"{X(row.StartedUs)}\" dx=\"4\" ")
                    .Append(_invariant, $"y=\"{y + (bar / 2) + 4}\">")
                    .Append(view.Spec.RunsOnLoop ? string.Create(_invariant, $"loop {row.Loop} · {row.Thread}")
                        : string.Create(_invariant, $"thread {row.Thread}")).Append("</text>");
            }
            if (row.AnsweredUs != 0 && row.Status is > 0 and < 400)
            {
                Line("tick", row.AnsweredUs);
            }
            else if (row.TimedOutUs != 0 || row.RefusedUs != 0 || row.AnsweredUs != 0
                || (c.IsDone && c.Status is 0 or >= 400))
            {
                Line("bad", Ended(row));
            }
            body.Append("</g>\n");
        }
    }

    private static long Ended(LabRow row) => row.TimedOutUs != 0 ? row.TimedOutUs : row.RefusedUs != 0 ? row.RefusedUs
        : row.AnsweredUs != 0 ? row.AnsweredUs : row.ClosedUs != 0 ? row.ClosedUs : row.Client.EndUs;

    private static void Axis(StringBuilder body, double seconds, double scale, int height, int width)
    {
        double step = 0.01;
        foreach (double candidate in (double[])[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600])
        {
            step = candidate;
            if (candidate * scale >= 60)
            {
                break;
            }
        }
        for (double t = 0; t <= seconds + (step / 100); t += step)
        {
            double x = Left + (t * scale);
            body.Append(_invariant, $"<path class=\"grid\" d=\"M{x:0.0} 0V{height}\"/>");
            if (x < width - 24)
            {
                body.Append(_invariant, $"<text x=\"{x:0.0}\" y=\"{height + 14}\" ")
                    .Append(_invariant, $"text-anchor=\"middle\">{t:0.##} s</text>");
            }
        }
        body.Append('\n');
    }

    private static void Legend(StringBuilder body, int y, int width, out int end)
    {
        int x = 12;
        foreach ((string mark, string name) in new[]
        {
            ("<path class=\"syn\" d=\"M0 6H22\"/>", "SYN dropped"),
            ("<rect class=\"backlog\" width=\"22\" height=\"11\"/>", "connected, not served"),
            ("<rect class=\"queued\" width=\"22\" height=\"11\"/>", "queued"),
            ("<rect class=\"reading\" width=\"22\" height=\"11\"/>", "a thread reads"),
            ("<rect class=\"t0\" width=\"22\" height=\"11\"/>", "handler (a colour per thread)"),
            ("<path class=\"tick\" d=\"M11 0v11\"/>", "answered"),
            ("<path class=\"bad\" d=\"M11 0v11\"/>", "refused, timed out or closed"),
        })
        {
            int wide = 40 + (name.Length * 6);
            if (x + wide > width)
            {
                x = 12;
                y += 20;
            }
            body.Append(_invariant, $"<g transform=\"translate({x} {y})\">{mark}")
                .Append(_invariant, $"<text x=\"28\" y=\"10\">{name}</text></g>\n");
            x += wide;
        }
        end = y + 24;
    }

    /// <summary>Text in lines of what fits; returns the next line's place.</summary>
    private static int Words(StringBuilder body, string text, int y, int width)
    {
        int columns = (int)((width - 24) / 6.3);
        var line = new StringBuilder();
        void Flush()
        {
            body.Append(_invariant, $"<text class=\"say\" x=\"12\" y=\"{y}\">{Escape(line.ToString())}</text>\n");
            y += 16;
            line.Clear();
        }

        foreach (string word in text.Split(' '))
        {
            if (line.Length > 0 && line.Length + 1 + word.Length > columns)
            {
                Flush();
            }
            line.Append(line.Length > 0 ? " " : "").Append(word);
        }
        Flush();
        return y;
    }

    private static string Escape(string text) =>
        text.Replace("&", "&amp;").Replace("<", "&lt;").Replace(">", "&gt;").Replace("\"", "&quot;");
}
