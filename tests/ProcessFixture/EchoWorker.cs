// The worker of the fixture server: a poll loop that answers each connection with who it is and what it runs.
using System.Text;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Process;
using Weir.Zones;

namespace Weir.Tests.ProcessFixture;

/// <summary>Answers connections until told otherwise.</summary>
internal sealed class EchoWorker(WorkerHost host) : IWorkerProgram
{
    private WorkerSnapshot _running = host.First;
    private WorkerSnapshot? _prepared;
    private bool _quit;

    public int Run()
    {
        host.Program = this;
        string answer = Answer(_running);
        if (answer == "exit-at-start")
        {
            return Role.FatalExitCode;
        }
        if (answer == "die-at-start")
        {
            return 1;
        }
        host.Acknowledge(_running.Generation);
        while (!_quit)
        {
            int[] listeners = [.. _running.Content.Listens.SelectMany(_running.Listeners)];
            var entries = new PollEntry[2 + listeners.Length];
            entries[0] = new PollEntry(host.MasterIsGone ? -1 : host.ChannelFd, PollEntry.Readable);
            entries[1] = new PollEntry(host.SignalFd, PollEntry.Readable);
            for (int i = 0; i < listeners.Length; i++)
            {
                entries[2 + i] = new PollEntry(listeners[i], PollEntry.Readable);
            }
            Descriptors.Poll(entries, -1);
            for (int i = 0; i < listeners.Length; i++)
            {
                if (entries[2 + i].Returned != 0)
                {
                    Serve(listeners[i]);
                }
            }
            if (entries[0].Returned != 0)
            {
                host.OnChannelReadable();
            }
            if (entries[1].Returned != 0)
            {
                host.OnSignalReadable();
            }
        }
        host.Log.Write(LogLevel.Notice, "exit");
        return 0;
    }

    public void Prepare(WorkerSnapshot snapshot)
    {
        if (Answer(snapshot) == "refused-by-worker")
        {
            host.Refuse(snapshot.Generation, "I cannot build this");
            return;
        }
        _prepared = snapshot;
        host.Acknowledge(snapshot.Generation);
    }

    public void Commit(uint generation)
    {
        WorkerSnapshot old = _running;
        _running = _prepared!;
        _prepared = null;
        old.Dispose();
    }

    public void Abort(uint generation) => _prepared = null;

    public void FlushLogs()
    {
    }

    public void Quit() => _quit = true;

    public void Terminate() => _quit = true;

    private static unsafe int Accept(int listener)
    {
        byte* address = stackalloc byte[SocketAddress.NativeBytesMax];
        int bytes = SocketAddress.NativeBytesMax;
        SysResult accepted = Sys.Accept(listener, address, ref bytes);
        return accepted.IsOk ? accepted.Int : -1;
    }

    private static string Answer(WorkerSnapshot snapshot) => Encoding.UTF8.GetString(snapshot.Content.Files);

    private void Serve(int listener)
    {
        int client = Accept(listener);
        if (client < 0)
        {
            return;
        }
        host.Counters.Add(StatusCounter.Accepted, 1);
        host.Counters.Add(StatusCounter.Active, 1);
        int fds = Directory.GetFiles("/proc/self/fd").Length;
        Zone zone = _running.FindZone(_running.Content.Zones[0])!;
        SharedTable table = SharedTable.Open(zone, 0, 16)!;
        long hits;
        using (zone.Lock())
        {
            uint entry = table.Find("hits"u8, 1);
            entry = entry != 0 ? entry : table.Add("hits"u8, 1, 8);
            hits = ++table.Value<long>(entry);
        }
        string line = $"pid={Environment.ProcessId} index={host.Index} generation={_running.Generation} "
            + $"answer={Answer(_running)} accepted={host.AllCounters.Sum(StatusCounter.Accepted)} "
            + $"active={host.AllCounters.Sum(StatusCounter.Active)} hits={hits} fds={fds} "
            + $"living={host.LivingSnapshots} secret={Encoding.UTF8.GetString(_running.Secret("key"))} "
            + $"env={Environment.GetEnvironmentVariable("FIXTURE")} "
            + $"listeners={_running.Content.Listens.Sum(l => _running.Listeners(l).Count)}\n";
        Descriptors.Write(_running.LogDescriptor(_running.Content.Logs[0].Path), Encoding.UTF8.GetBytes(line));
        Descriptors.WriteAll(client, Encoding.UTF8.GetBytes(line));
        Descriptors.Close(client);
        host.Counters.Add(StatusCounter.Active, -1);
    }
}
