// A snapshot with its descriptors, on the master's side: the sealed memfd, the sealed secrets, and for everything else
// the numbers in the master's tables. Turns itself into the message that one worker gets. Owns its memfds only.
using System.Globalization;
using System.Text;
using Weir.Kernel;

namespace Weir.Process;

/// <summary>A snapshot that can be handed over, again and again.</summary>
internal sealed class LiveSnapshot : IDisposable
{
    private readonly int _content;
    private readonly int[] _secrets;

    private LiveSnapshot(Snapshot snapshot, MasterPlan plan, int content, int[] secrets)
    {
        Snapshot = snapshot;
        Plan = plan;
        _content = content;
        _secrets = secrets;
    }

    public Snapshot Snapshot { get; }

    public MasterPlan Plan { get; }

    /// <summary>Seals a snapshot's bytes and secrets. Null after the reason was logged.</summary>
    public static LiveSnapshot? Create(Snapshot snapshot, MasterPlan plan, Log log)
    {
        SysResult content = SharedMemory.CreateSealed("weir:snapshot", snapshot.Serialize());
        if (content.IsError)
        {
            log.Write(LogLevel.Emerg, "memfd_create(\"weir:snapshot\") failed", content.Errno);
            return null;
        }
        var secrets = new List<int>();
        foreach (SecretContent secret in plan.Secrets)
        {
            SysResult sealedFd = SharedMemory.CreateSealed("weir:secret", secret.Bytes);
            if (sealedFd.IsError)
            {
                log.Write(LogLevel.Emerg, "memfd_create(\"weir:secret\") failed", sealedFd.Errno);
                secrets.ForEach(static fd => Descriptors.Close(fd));
                Descriptors.Close(content.Int);
                return null;
            }
            secrets.Add(sealedFd.Int);
        }
        return new LiveSnapshot(snapshot, plan, content.Int, [.. secrets]);
    }

    /// <summary>
    /// The message for worker <paramref name="index"/>, from the prepared or the settled tables. The text names the
    /// worker, its counter slot, and for each descriptor at the end the listen it belongs to: the queues of removed
    /// workers, which the first one drains.
    /// </summary>
    public ChannelMessage ToMessage(
        MasterTables tables, int index, int counterSlot, bool prepared, bool running)
    {
        IReadOnlyList<OpenListen> open = prepared ? tables.Listens.Prepared : tables.Listens.Open;
        int workers = Snapshot.Settings.WorkerCount;
        var fds = new List<int> { _content };
        var extras = new List<int>();
        var text = new StringBuilder(string.Create(CultureInfo.InvariantCulture, $"{index} {counterSlot}"));
        for (int i = 0; i < Snapshot.Listens.Count; i++)
        {
            ListenSpec spec = Snapshot.Listens[i];
            // The table keeps the snapshot's order, one entry for each specification.
            List<int> sockets = open[i].Fds;
            int used = spec.ReusePort ? Math.Min(workers, sockets.Count) : 1;
            fds.Add(sockets[spec.ReusePort ? index % used : 0]);
            for (int extra = used; index == 0 && extra < sockets.Count; extra++)
            {
                extras.Add(sockets[extra]);
                text.Append(CultureInfo.InvariantCulture, $" {i}");
            }
        }
        foreach (LogSpec log in Snapshot.Logs)
        {
            if (!log.IsStandardError)
            {
                fds.Add(prepared ? tables.Logs.PreparedFdOf(log.Path) : tables.Logs.FdOf(log.Path));
            }
        }
        fds.AddRange(Snapshot.Zones.Select(zone => tables.Zones.FdOf(zone, prepared)));
        fds.AddRange(_secrets);
        fds.AddRange(extras);
        return new ChannelMessage(ChannelMessageKind.Prepare, Snapshot.Generation)
        {
            Running = running,
            Text = text.ToString(),
            Descriptors = [.. fds],
        };
    }

    public void Dispose()
    {
        Descriptors.Close(_content);
        foreach (int fd in _secrets)
        {
            Descriptors.Close(fd);
        }
    }
}
