// A client's connection as a stream: reading runs the loop, on the virtual clock, until bytes come or nothing more can.
// TLS of the framework sits on it where the listening address speaks TLS. Loop thread only.
using Weir.Loop;

namespace Weir.Testing;

internal sealed class PumpStream(InMemoryLoop loop, InMemoryPeer peer, long patienceMs) : Stream
{
    public override bool CanRead => true;
    public override bool CanSeek => false;
    public override bool CanWrite => true;
    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>The server has ended or reset the connection, and everything was read.</summary>
    internal bool IsOver => peer.Available == 0 && (peer.IsEnded || peer.IsReset || peer.IsRefused);

    public override int Read(Span<byte> buffer)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }
        if (!loop.RunUntil(() => peer.Available > 0 || IsOver, patienceMs))
        {
            throw new TimeoutException("nothing more comes");
        }
        byte[] bytes = peer.Read(buffer.Length);
        bytes.CopyTo(buffer);
        return bytes.Length;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer) => peer.Send(buffer);

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();
}
