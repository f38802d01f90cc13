// Flow control as arithmetic (RFC 9113 §5.2, §6.9): a window of bytes that may be sent, and one of bytes that may come.
// A window may become negative when the peer lowers SETTINGS_INITIAL_WINDOW_SIZE. Values only.
namespace Weir.Protocol.Http2;

/// <summary>How many bytes may still be sent, on a stream or a connection.</summary>
public struct SendWindow(int size)
{
    /// <summary>Bytes that may be sent; may be negative (§6.9.2).</summary>
    public int Size { get; private set; } = size;

    public readonly bool IsOpen => Size > 0;

    /// <summary>Takes as many of these bytes as may be sent now.</summary>
    public int Take(int wanted)
    {
        int taken = Math.Max(0, Math.Min(wanted, Size));
        Size -= taken;
        return taken;
    }

    /// <summary>Gives back what was taken and not sent.</summary>
    public void Return(int bytes) => Size += bytes;

    /// <summary>A WINDOW_UPDATE. False when the window would be larger than 2^31-1 (§6.9.1).</summary>
    public bool TryGrow(uint increment)
    {
        long size = (long)Size + increment;
        if (size > Http2Limits.WindowMax)
        {
            return false;
        }
        Size = (int)size;
        return true;
    }

    /// <summary>The peer changed its initial window from one size to another (§6.9.2). False when this window would
    /// become too large.</summary>
    public bool TryAdjust(int before, int now)
    {
        long size = (long)Size + now - before;
        if (size > Http2Limits.WindowMax)
        {
            return false;
        }
        Size = (int)size;
        return true;
    }
}

/// <summary>How many bytes the peer may still send, and when to let it send more.</summary>
public struct ReceiveWindow(int capacity)
{
    /// <summary>Bytes the peer may send without a further WINDOW_UPDATE.</summary>
    public int Size { get; private set; } = capacity;
    /// <summary>Bytes that were consumed and not told to the peer yet.</summary>
    public int Owed { get; private set; }
    /// <summary>The size the window is kept at when what comes is consumed at once.</summary>
    public int Capacity { get; private set; } = capacity;

    /// <summary>Flow-controlled bytes came (data and padding). False when the peer had no right to send them.</summary>
    public bool TryReceive(int bytes)
    {
        if (bytes > Size)
        {
            return false;
        }
        Size -= bytes;
        return true;
    }

    /// <summary>Bytes were taken from the window's buffer. Returns the increment to send now, or 0 while it is not
    /// worth a frame: less than half of the capacity.</summary>
    public int Consume(int bytes)
    {
        Owed += bytes;
        return Owed >= Math.Max(1, Capacity / 2) ? Flush() : 0;
    }

    /// <summary>The increment for everything consumed so far, or 0.</summary>
    public int Flush()
    {
        int increment = Owed;
        Owed = 0;
        Size += increment;
        return increment;
    }

    /// <summary>Keeps the window at another size from now on. Returns the increment to send for it, or 0.</summary>
    public int Resize(int capacity)
    {
        int increment = Math.Max(0, capacity - Capacity);
        Capacity = Math.Max(capacity, Capacity);
        Size += increment;
        return increment;
    }
}
