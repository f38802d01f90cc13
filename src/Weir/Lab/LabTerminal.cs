// The laboratory in a terminal: a table that lives while runs go on, then a timeline per run with its sentence. Plain
// ANSI, and none of it when standard output is no terminal. Pure but for Live, which writes.
using System.Globalization;
using System.Text;

namespace Weir.Lab;

internal static class LabTerminal
{
    private const int RowsMax = 40;
    private static readonly CultureInfo _invariant = CultureInfo.InvariantCulture;

    /// <summary>Six colours for threads, told apart also by their numbers.</summary>
    private static readonly string[] _colours = ["36", "35", "32", "33", "34", "31"];

    public static bool IsTerminal =>
        !Console.IsOutputRedirected && Environment.GetEnvironmentVariable("TERM") != "dumb";

    public static int Columns
    {
        get
        {
            try
            {
                return IsTerminal ? Math.Clamp(Console.WindowWidth, 40, 200) : 100;
            }
            catch (IOException)
            {
                return 100;
            }
        }
    }

    /// <summary>Draws the table again and again until the session is over.</summary>
    public static async Task LiveAsync(LabSession session)
    {
        int lines = 0;
        while (true)
        {
            bool last = session.IsOver;
            var text = new StringBuilder();
            if (lines > 0)
            {
                text.Append(_invariant, $"\e[{lines}A");
            }
            string table = Table(session.Views());
            foreach (string line in table.TrimEnd('\n').Split('\n'))
            {
                text.Append(line.Length > Columns ? line[..Columns] : line).Append("\e[K\n");
            }
            lines = table.Count(static c => c == '\n');
            Console.Out.Write(text);
            Console.Out.Flush();
            if (last)
            {
                return;
            }
            await Task.Delay(150);
        }
    }

    public static string Table(IReadOnlyList<LabView> views)
    {
        var text = new StringBuilder();
        text.Append("model                     answered  open  queued  running  threads    memory  switches    time\n");
        foreach (LabView view in views)
        {
            LabFigures f = LabFigures.Of(view);
            LabSample s = view.Samples.Length > 0 ? view.Last : view.WithIdle;
            double time = view.State == LabState.Done ? f.TotalSeconds
                : view.State == LabState.Running ? Math.Max(0, (view.NowUs - view.StartUs) / 1e6) : 0;
            int count = view.Spec.Requests * view.Spec.KeepAlive;
            bool done = view.State == LabState.Done;
            text.Append(_invariant, $"{view.Spec.Model,-25} {f.Answered + "/" + count,8} ");
            text.Append(_invariant, $"{(done ? f.PeakConnections : s.Connections),5} {s.Queued,7} {s.Running,8} ");
            text.Append(_invariant, $"{(done ? f.PeakThreads : s.Threads),8} ");
            text.Append(_invariant, $"{LabSentence.Bytes(done ? f.PeakMemoryBytes : s.MemoryBytes),9} ");
            text.Append(_invariant, $"{Math.Max(0, f.Switches),9} {time,6:0.0}s");
            text.Append(view.State switch
            {
                LabState.Waiting => "  waits its turn",
                LabState.Preparing => view.Spec.Idle > 0
                    ? string.Create(_invariant, $"  opening {view.IdleOpen}/{view.Spec.Idle}") : "  starts",
                LabState.Failed => "  ended early",
                _ => "",
            });
            text.Append('\n');
        }
        return text.ToString();
    }

    /// <summary>A run's timeline and what it says.</summary>
    public static string Timeline(LabView view, int columns, bool coloured)
    {
        var text = new StringBuilder();
        LabFigures f = LabFigures.Of(view);
        text.Append(Bold($"{view.Spec.Title} ({view.Spec.Model})", coloured)).Append('\n');
        LabRow[] rows = [.. view.Rows.Take(RowsMax)];
        if (rows.Length > 0 && view.StartUs != 0)
        {
            Draw(text, view, rows, columns, coloured);
        }
        Wrap(text, LabSentence.Of(view, f), columns);
        Wrap(text, "Cost: " + LabSentence.Costs(f) + ".", columns);
        return text.ToString();
    }

    public static string Legend(bool coloured) =>
        "! SYN dropped   · connected, not served   - queued   ~ a thread reads   "
        + (coloured ? "█" : "=") + " the handler runs   | answered   x refused, timed out or closed\n";

    public static void Wrap(StringBuilder text, string words, int columns)
    {
        int column = 0;
        foreach (string word in words.Split(' '))
        {
            if (column > 0 && column + 1 + word.Length > columns)
            {
                text.Append('\n');
                column = 0;
            }
            else if (column > 0)
            {
                text.Append(' ');
                column++;
            }
            text.Append(word);
            column += word.Length;
        }
        text.Append('\n');
    }

    public static string Bold(string text, bool coloured) => coloured ? $"\e[1m{text}\e[0m" : text;

    private static void Draw(StringBuilder text, LabView view, LabRow[] rows, int columns, bool coloured)
    {
        int width = Math.Max(20, columns - 24);
        long end = rows.Max(static r => Math.Max(r.Client.EndUs, r.AnsweredUs));
        double perCell = Math.Max(1, (end - view.StartUs) / (double)width);
        Dictionary<int, int> threads = [];
        foreach (LabRow row in rows.Where(static r => r.StartedUs != 0).OrderBy(static r => r.StartedUs))
        {
            threads.TryAdd(row.Thread, threads.Count);
        }
        char[] cells = new char[width];
        foreach (LabRow row in rows)
        {
            Array.Fill(cells, ' ');
            void Fill(char c, long from, long to)
            {
                if (from == 0)
                {
                    return;
                }
                int a = Math.Clamp((int)((from - view.StartUs) / perCell), 0, width - 1);
                int b = Math.Clamp((int)(((to != 0 ? to : end) - view.StartUs) / perCell), 0, width - 1);
                for (int i = a; i < Math.Max(b, a + 1); i++)
                {
                    cells[i] = c;
                }
            }

            ClientMark c = row.Client;
            if (c.Retransmits > 0 || c.ConnectedUs == 0)
            {
                Fill('!', c.BeginUs, c.ConnectedUs != 0 ? c.ConnectedUs : c.EndUs);
            }
            Fill('·', c.ConnectedUs, row.AcceptedUs != 0 ? row.AcceptedUs : c.EndUs);
            long first = row.TakenUs != 0 && c.OnConnection == 1 ? row.TakenUs : row.StartedUs;
            Fill(row.TakenUs == 0 && row.ReceivedUs == 0 && c.IsSlow ? '·' : '-',
                row.AcceptedUs != 0 ? row.AcceptedUs : row.ReceivedUs, first != 0 ? first : c.EndUs);
            Fill('~', c.OnConnection == 1 ? row.TakenUs : 0, row.ReceivedUs != 0 ? row.ReceivedUs : row.ClosedUs);
            Fill(coloured ? '█' : '=', row.StartedUs, row.EndedUs);
            bool well = c.Status is > 0 and < 400;
            Fill(well ? '|' : 'x', c.EndUs, c.EndUs + 1);
            string name = c.IsSlow ? $"slow {c.Number}"
                : $"{c.Number}" + (c.OnConnection > 1 ? $".{c.OnConnection}" : "");
            string line = new(cells);
            if (coloured && row.StartedUs != 0)
            {
                string colour = _colours[threads[row.Thread] % _colours.Length];
                int from = line.IndexOf('█');
                int to = line.LastIndexOf('█') + 1;
                line = from < 0 ? line : $"{line[..from]}\e[{colour}m{line[from..to]}\e[0m{line[to..]}";
            }
            string where = row.StartedUs == 0 ? "" : view.Spec.RunsOnLoop
                ? string.Create(_invariant, $"loop {row.Loop} {row.Thread}")
                : string.Create(_invariant, $"thread {row.Thread}");
            text.Append(_invariant, $"{name,7} {line} {where}").Append('\n');
        }
        string right = LabSentence.S((end - view.StartUs) / 1e6);
        text.Append(' ', 8).Append("0 s").Append(' ', Math.Max(1, width - 3 - right.Length)).Append(right).Append('\n');
        if (view.Rows.Length > rows.Length)
        {
            text.Append(_invariant, $"        the first {rows.Length} of {view.Rows.Length} requests\n");
        }
    }
}
