// The channel between a master and one worker: packets with descriptors over a socket pair. Sending never blocks: what
// does not fit waits in an outbox until the descriptor is writable. Receiving puts a snapshot's descriptors together
// again from as many packets as they took. Each side belongs to one thread. The end of the channel is the peer's death.
using System.Text;
using Weir.Kernel;

namespace Weir.Process;

/// <summary>What a packet says.</summary>
public enum ChannelMessageKind : byte
{
    None,

    /// <summary>Master: a snapshot; build from it and answer.</summary>
    Prepare,

    /// <summary>More descriptors of the message before. Never seen by a receiver.</summary>
    MoreDescriptors,

    /// <summary>Master: switch to the prepared snapshot.</summary>
    Commit,

    /// <summary>Master: forget the prepared snapshot.</summary>
    Abort,

    /// <summary>Master: log files, one descriptor per path in the text (one a line).</summary>
    ReopenLogs,

    Quit,
    Terminate,

    /// <summary>Worker: the snapshot is built.</summary>
    Acknowledged,

    /// <summary>Worker: the snapshot could not be built, and why.</summary>
    Refused,
}

/// <summary>One message, whole. Received descriptors belong to whoever takes the message.</summary>
public sealed record ChannelMessage(ChannelMessageKind Kind, uint Generation = 0)
{
    /// <summary>Prepare: nothing runs yet, this is the snapshot to start from.</summary>
    public bool Running { get; init; }

    public string Text { get; init; } = "";

    public int[] Descriptors { get; init; } = [];

    public void CloseDescriptors()
    {
        foreach (int fd in Descriptors)
        {
            Kernel.Descriptors.Close(fd);
        }
    }
}

/// <summary>What <see cref="Channel.TryReceive"/> came to.</summary>
public enum ReceiveOutcome : byte
{
    Message,

    /// <summary>Nothing (more) now.</summary>
    Empty,

    /// <summary>The other side is gone, or speaks another language.</summary>
    Ended,
}

/// <summary>One end of a channel.</summary>
public sealed class Channel : IDisposable
{
    /// <summary>The longest text of a message (a refusal may carry a long error).</summary>
    public const int TextBytesMax = 32 * 1024;

    private const int HeaderBytes = 12;

    private readonly Queue<Packet> _outbox = new();
    private readonly byte[] _buffer = new byte[HeaderBytes + TextBytesMax];
    private readonly int[] _fds = new int[Ancillary.DescriptorsMax];
    private readonly List<int> _collected = [];
    private ChannelMessage? _incomplete;
    private int _missing;

    public Channel(int fd) => Fd = fd;

    public int Fd { get; private set; }

    /// <summary>Packets wait for the descriptor to be writable.</summary>
    public bool HasUnsent => _outbox.Count > 0;

    /// <summary>A connected pair: the master's end, and the descriptor to hand to a child (close it after).</summary>
    public static SysResult CreatePair(out Channel? channel, out int childFd)
    {
        SysResult made = Ancillary.Pair(out int own, out childFd);
        channel = made.IsOk ? new Channel(own) : null;
        return made;
    }

    /// <summary>Sends or queues a message. Its descriptors must stay open until nothing is unsent.</summary>
    public SysResult Send(ChannelMessage message)
    {
        byte[] text = Encoding.UTF8.GetBytes(message.Text);
        if (text.Length > TextBytesMax)
        {
            text = text[..TextBytesMax];
        }
        int sent = 0;
        do
        {
            int count = Math.Min(message.Descriptors.Length - sent, Ancillary.DescriptorsMax);
            ChannelMessageKind kind = sent == 0 ? message.Kind : ChannelMessageKind.MoreDescriptors;
            byte[] payload = new byte[HeaderBytes + (sent == 0 ? text.Length : 0)];
            payload[0] = (byte)kind;
            payload[1] = message.Running ? (byte)1 : (byte)0;
            BitConverter.TryWriteBytes(payload.AsSpan(4), message.Generation);
            BitConverter.TryWriteBytes(payload.AsSpan(8), message.Descriptors.Length);
            if (sent == 0)
            {
                text.CopyTo(payload, HeaderBytes);
            }
            _outbox.Enqueue(new Packet(payload, message.Descriptors[sent..(sent + count)]));
            sent += count;
        }
        while (sent < message.Descriptors.Length);
        return Flush();
    }

    /// <summary>Sends what is queued; EAGAIN is success with something left.</summary>
    public SysResult Flush()
    {
        while (_outbox.TryPeek(out Packet? packet))
        {
            SysResult sent = Ancillary.Send(Fd, packet.Payload, packet.Descriptors);
            if (sent.IsError)
            {
                // ETOOMANYREFS: too many descriptors are in flight for this user; the peer will take them.
                const int ETOOMANYREFS = 109;
                return sent.Errno is Errno.EAGAIN or Errno.ENOBUFS or ETOOMANYREFS ? default : sent;
            }
            _outbox.Dequeue();
        }
        return default;
    }

    /// <summary>The next whole message. With <paramref name="wait"/> blocks until there is one.</summary>
    public ReceiveOutcome TryReceive(out ChannelMessage? message, bool wait = false)
    {
        message = null;
        while (true)
        {
            SysResult received = Ancillary.Receive(Fd, _buffer, _fds, out int count, wait);
            if (received.Errno == Errno.EAGAIN)
            {
                return ReceiveOutcome.Empty;
            }
            _collected.AddRange(_fds.AsSpan(0, count));
            if (received.IsError || received.Value < HeaderBytes)
            {
                DropCollected();
                return ReceiveOutcome.Ended;
            }
            var kind = (ChannelMessageKind)_buffer[0];
            if (kind == ChannelMessageKind.MoreDescriptors ? _incomplete is null : _incomplete is not null)
            {
                DropCollected();
                return ReceiveOutcome.Ended;
            }
            if (_incomplete is null)
            {
                _incomplete = new ChannelMessage(kind, BitConverter.ToUInt32(_buffer, 4))
                {
                    Running = _buffer[1] != 0,
                    Text = Encoding.UTF8.GetString(_buffer, HeaderBytes, received.Int - HeaderBytes),
                };
                _missing = BitConverter.ToInt32(_buffer, 8);
            }
            _missing -= count;
            if (_missing < 0)
            {
                DropCollected();
                return ReceiveOutcome.Ended;
            }
            if (_missing == 0)
            {
                message = _incomplete with { Descriptors = [.. _collected] };
                _incomplete = null;
                _collected.Clear();
                return ReceiveOutcome.Message;
            }
        }
    }

    public void Dispose()
    {
        DropCollected();
        _outbox.Clear();
        if (Fd >= 0)
        {
            Descriptors.Close(Fd);
            Fd = -1;
        }
    }

    private void DropCollected()
    {
        foreach (int fd in _collected)
        {
            Descriptors.Close(fd);
        }
        _collected.Clear();
        _incomplete = null;
    }

    private sealed record Packet(byte[] Payload, int[] Descriptors);
}
