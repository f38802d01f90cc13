// The ends of in-memory connections that test code holds, and the pipes between them and the server's ends.
// One loop's thread: a peer never waits and never runs the loop. Memory is managed and never given back early.
namespace Weir.Loop;

/// <summary>The other end of a connection, held by test code: nothing here waits or runs the loop.</summary>
public sealed class InMemoryPeer : IInMemoryEnd, IInMemoryTarget
{
    private readonly InMemoryLoop _loop;
    private InMemoryPipe _in = new();
    private InMemoryPipe _out = new();
    private bool _queued;

    internal InMemoryPeer(InMemoryLoop loop) => _loop = loop;

    /// <summary>Nobody listens at the address.</summary>
    public bool IsRefused { get; private set; }

    /// <summary>Called in the loop's turn after something has come: bytes, the end, or a reset.</summary>
    public Action<InMemoryPeer>? Arrived { get; set; }

    /// <summary>What is sent arrives in pieces of this many bytes, one per turn; 0 for all at once.</summary>
    public int ChunkBytes
    {
        get => _out.ChunkBytes;
        set => _out.ChunkBytes = value;
    }

    /// <summary>How many unread bytes the other side may have sent before its sends block.</summary>
    public int WindowBytes
    {
        get => _in.WindowBytes;
        set
        {
            _in.WindowBytes = value;
            _in.Writer?.Poke();
        }
    }

    /// <summary>Bytes that have come and were not read yet.</summary>
    public int Available => _in.Count;

    /// <summary>All bytes that were read by <see cref="Read(int)"/>.</summary>
    public long ReadBytes { get; private set; }

    /// <summary>Whether the other side has ended its direction and everything was read.</summary>
    public bool IsEnded => _in.EndVisible;

    /// <summary>Whether the other side has reset the connection (or closed it with unread bytes).</summary>
    public bool IsReset => _in.IsBroken;

    internal void Open(InMemoryPipe incoming, InMemoryPipe outgoing)
    {
        _in = incoming;
        _out = outgoing;
        _in.Reader = this;
        _out.Writer = this;
        if (_in.Count > 0)
        {
            Poke();
        }
    }

    internal void Refuse()
    {
        IsRefused = true;
        _in.Break();
    }

    public void Send(ReadOnlySpan<byte> bytes)
    {
        if (_out.IsDeaf)
        {
            _in.Break();
            return;
        }
        if (!_out.IsEnded && !_out.IsBroken)
        {
            _out.Write(bytes);
        }
    }

    /// <summary>Sends text, one byte per char.</summary>
    public void Send(string latin1) => Send(System.Text.Encoding.Latin1.GetBytes(latin1));

    /// <summary>Takes up to <paramref name="max"/> bytes that have come; this opens the window again.</summary>
    public byte[] Read(int max = int.MaxValue)
    {
        _in.Reveal();
        byte[] bytes = new byte[Math.Min(max, _in.Count)];
        ReadBytes += _in.Read(bytes);
        return bytes;
    }

    /// <summary>Takes what has come and fits into <paramref name="into"/>, without allocating.</summary>
    public int Read(Span<byte> into)
    {
        _in.Reveal();
        int count = _in.Read(into[..Math.Min(into.Length, _in.Count)]);
        ReadBytes += count;
        return count;
    }

    /// <summary>As <see cref="Read(int)"/>, as text with one char per byte.</summary>
    public string ReadText(int max = int.MaxValue) => System.Text.Encoding.Latin1.GetString(Read(max));

    /// <summary>Sends FIN; reading goes on.</summary>
    public void ShutdownSend() => _out.End();

    /// <summary>Closes both directions; what the other side still sends is answered with a reset.</summary>
    public void Close()
    {
        _in.IsDeaf = true;
        if (_in.Count > 0)
        {
            Reset();
            return;
        }
        _out.End();
        _in.Writer?.Poke();
    }

    public void Reset()
    {
        _in.IsDeaf = true;
        _out.Break();
        _in.Break();
    }

    void IInMemoryEnd.Poke()
    {
        if (!_queued && Arrived is not null)
        {
            _queued = true;
            _loop.Enqueue(this);
        }
    }

    private void Poke() => ((IInMemoryEnd)this).Poke();

    void IInMemoryTarget.Deliver()
    {
        _queued = false;
        Arrived?.Invoke(this);
    }
}

/// <summary>An end of a pipe: told when something changed.</summary>
internal interface IInMemoryEnd
{
    void Poke();
}

/// <summary>Bytes in one direction.</summary>
internal sealed class InMemoryPipe
{
    private byte[] _bytes = new byte[256];
    private int _start;

    internal IInMemoryEnd? Reader;
    internal IInMemoryEnd? Writer;

    // The fate that a plan has for it: after so many bytes it is cut.
    internal SimulationPlan? Plan;
    internal Cut Cut;
    internal long CutAfter;
    private InMemoryPipe? _back;
    private bool _stalled;

    /// <summary>Makes two directions of one connection know each other.</summary>
    internal static void Pair(InMemoryPipe a, InMemoryPipe b)
    {
        a._back = b;
        b._back = a;
    }

    /// <summary>Bytes that become readable per turn; 0 for all at once.</summary>
    internal int ChunkBytes;

    /// <summary>Bytes that may wait for the reader before the writer blocks.</summary>
    internal int WindowBytes = int.MaxValue;

    /// <summary>Bytes written and not yet read, and how many of them the reader may see.</summary>
    internal int Count { get; private set; }
    internal int Visible { get; private set; }

    internal bool IsEnded { get; private set; }
    internal bool IsBroken { get; private set; }

    /// <summary>The reader has closed: bytes go nowhere.</summary>
    internal bool IsDeaf;

    /// <summary>Whether the reader would find something: bytes, the end, or an error.</summary>
    internal bool IsReadable => Visible > 0 || IsBroken || EndVisible;
    internal bool EndVisible => IsEnded && Count == 0;
    internal int Room => _stalled ? 0 : Math.Max(WindowBytes - Count, 0);
    internal bool HasHidden => Visible < Count;

    internal int Write(ReadOnlySpan<byte> bytes)
    {
        int n = Math.Min(bytes.Length, Room);
        bool isCut = Cut != Cut.None && n > CutAfter;
        if (isCut)
        {
            n = (int)CutAfter;
        }
        CutAfter -= n;
        if (_start + Count + n > _bytes.Length)
        {
            byte[] target = Count + n > _bytes.Length ? new byte[Math.Max(Count + n, _bytes.Length * 2)] : _bytes;
            _bytes.AsSpan(_start, Count).CopyTo(target);
            _bytes = target;
            _start = 0;
        }
        bytes[..n].CopyTo(_bytes.AsSpan(_start + Count));
        Count += n;
        if (n > 0)
        {
            Reader?.Poke();
        }
        if (isCut)
        {
            TakeCut();
        }
        return n;
    }

    private void TakeCut()
    {
        Plan!.Faults++;
        switch (Cut)
        {
            case Cut.Reset:
                Break();
                _back?.Break();
                break;
            case Cut.End:
                End();
                break;
            default:
                _stalled = true;
                break;
        }
        Cut = Cut.None;
    }

    /// <summary>Lets the reader see more; with weather, only a part of it.</summary>
    internal void Reveal(SimulationPlan? weather = null)
    {
        int seen = Visible;
        Visible = ChunkBytes == 0 ? Count : Math.Min(Count, Visible + ChunkBytes);
        if (weather is not null && Visible - seen > 1 && weather.Random.Chance(weather.Splits))
        {
            Visible = seen + weather.Random.Size(Visible - seen);
        }
    }

    internal int Read(Span<byte> into)
    {
        int n = Math.Min(into.Length, Visible);
        bool wasFull = Room == 0;
        _bytes.AsSpan(_start, n).CopyTo(into);
        _start += n;
        Count -= n;
        Visible -= n;
        if (Count == 0)
        {
            _start = 0;
        }
        if (wasFull && Room > 0)
        {
            Writer?.Poke();
        }
        return n;
    }

    internal void End()
    {
        if (IsEnded || _stalled)
        {
            return;
        }
        IsEnded = true;
        Reader?.Poke();
    }

    internal void Break()
    {
        if (IsBroken)
        {
            return;
        }
        IsBroken = true;
        Reader?.Poke();
        Writer?.Poke();
    }
}
