// A request's story, put together from the server's events and its client's mark. The server tells on which connection
// it answered; a client that was told nothing is matched by order, because Linux accepts connections in the order in
// which they were completed. Pure.
using Weir.Server;

namespace Weir.Lab;

/// <summary>One request. Times are monotonic microseconds; 0: it did not happen (yet).</summary>
internal sealed record LabRow
{
    public required ClientMark Client { get; init; }
    public long AcceptedUs { get; init; }

    /// <summary>A thread took the connection (blocking models).</summary>
    public long TakenUs { get; init; }
    public int TakenBy { get; init; }
    public long ReceivedUs { get; init; }
    public long QueuedUs { get; init; }
    public long StartedUs { get; init; }
    public long AnsweredUs { get; init; }
    public long TimedOutUs { get; init; }
    public long CameBackUs { get; init; }
    public long RefusedUs { get; init; }
    public long ClosedUs { get; init; }
    public int Thread { get; init; }
    public int Loop { get; init; } = -1;
    public int Status { get; init; }
    public long Connection { get; init; }

    /// <summary>When its handler ended, or the server gave it up, or 0.</summary>
    public long EndedUs => TimedOutUs != 0 ? TimedOutUs : AnsweredUs;

    /// <summary>What the client waited for its answer; -1 without one.</summary>
    public long TookUs => Client.EndUs != 0 && Client.Status != 0 ? Client.EndUs - Client.BeginUs : -1;

    public static LabRow[] Of(List<AppServerEvent> events, List<ClientMark> marks)
    {
        var byConnection = new Dictionary<long, List<AppServerEvent>>();
        foreach (AppServerEvent e in events)
        {
            if (!byConnection.TryGetValue(e.Connection, out List<AppServerEvent>? list))
            {
                byConnection.Add(e.Connection, list = []);
            }
            list.Add(e);
        }
        HashSet<long> known = [.. marks.Select(static m => m.Connection)];
        var others = new Queue<long>(byConnection
            .Where(c => !known.Contains(c.Key)
                && c.Value.Exists(static e => e.Kind == AppServerEventKind.Accepted))
            .Select(static c => c.Key)
            .Order());
        Dictionary<ClientMark, long> guessed = [];
        foreach (ClientMark mark in marks
            .Where(static m => m.Connection == 0 && m.OnConnection == 1 && m.ConnectedUs != 0)
            .OrderBy(static m => m.ConnectedUs))
        {
            if (others.TryDequeue(out long connection))
            {
                guessed.Add(mark, connection);
            }
        }
        return [.. marks.Select(mark =>
        {
            long connection = mark.Connection != 0 ? mark.Connection : guessed.GetValueOrDefault(mark);
            return byConnection.TryGetValue(connection, out List<AppServerEvent>? own)
                ? Build(mark, connection, own) : new LabRow { Client = mark };
        })];
    }

    private static LabRow Build(ClientMark mark, long connection, List<AppServerEvent> events)
    {
        var row = new LabRow { Client = mark, Connection = connection };
        bool isFirst = mark.OnConnection == 1;
        foreach (AppServerEvent e in events)
        {
            bool mine = e.Request == mark.OnConnection || (e.Request == 0 && isFirst);
            row = e.Kind switch
            {
                AppServerEventKind.Accepted when isFirst => row with { AcceptedUs = e.TimeUs, Loop = e.Loop },
                AppServerEventKind.Taken when isFirst => row with { TakenUs = e.TimeUs, TakenBy = e.Thread },
                AppServerEventKind.Closed => row with { ClosedUs = e.TimeUs },
                AppServerEventKind.Received when mine => row with { ReceivedUs = e.TimeUs, Loop = e.Loop },
                AppServerEventKind.Queued when mine => row with { QueuedUs = e.TimeUs },
                AppServerEventKind.Started when mine => row with
                {
                    StartedUs = e.TimeUs,
                    Thread = e.Thread,
                    Loop = e.Loop,
                },
                AppServerEventKind.Answered when mine => row with { AnsweredUs = e.TimeUs, Status = e.Status },
                AppServerEventKind.TimedOut when mine => row with { TimedOutUs = e.TimeUs },
                AppServerEventKind.CameBack when mine => row with { CameBackUs = e.TimeUs },
                AppServerEventKind.Refused when mine => row with { RefusedUs = e.TimeUs, Status = e.Status },
                _ => row,
            };
        }
        return row;
    }
}
