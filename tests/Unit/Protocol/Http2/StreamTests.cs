// Streams as values: their states, their numbers, their windows and priorities, and header blocks in pieces.
using System.Text;
using Weir.Protocol.Http2;
using Xunit;

namespace Weir.Tests.Unit.Protocol.Http2;

public class StreamTests
{
    [Fact]
    public void AStreamOpensAndEndsInEachDirection()
    {
        var stream = default(StreamState);
        Assert.True(stream.IsIdle);
        Assert.Equal(Http2Reason.StreamIdle, stream.ReceiveData(false));
        Assert.Equal(Http2Reason.StreamIdle, stream.ReceiveReset());
        Assert.Equal(Http2Reason.StreamIdle, stream.ReceiveWindowUpdate());
        Assert.Equal(Http2Reason.None, stream.ReceiveHeaders(false));
        Assert.Equal(Http2Reason.None, stream.ReceiveData(false));
        Assert.Equal(Http2Reason.None, stream.ReceiveHeaders(true));
        Assert.True(stream.IsActive && stream.RemoteEnded && !stream.LocalEnded);
        Assert.Equal(Http2Reason.StreamHalfClosed, stream.ReceiveData(false));
        Assert.Equal(Http2Reason.StreamHalfClosed, stream.ReceiveHeaders(true));
        Assert.Equal(Http2Reason.None, stream.ReceiveWindowUpdate());
        stream.Send(endStream: false);
        stream.Send(endStream: true);
        Assert.True(stream.IsClosed && !stream.IsActive);
        Assert.Equal(Http2Reason.StreamClosed, stream.ReceiveData(false));
        Assert.Equal(Http2Reason.None, stream.ReceiveReset());
    }

    [Fact]
    public void AResetEndsBothDirections()
    {
        var stream = default(StreamState);
        stream.ReceiveHeaders(false);
        stream.SendReset();
        Assert.True(stream.IsClosed && stream.IsReset);
        Assert.Equal(Http2Reason.StreamClosed, stream.ReceiveHeaders(false));
    }

    [Fact]
    public void NumbersAreOddAndGrow()
    {
        var numbers = default(StreamNumbers);
        Assert.Equal(Http2Reason.StreamIdEven, numbers.Open(2));
        Assert.Equal(Http2Reason.None, numbers.Open(5));
        Assert.Equal(Http2Reason.StreamClosed, numbers.Open(3));
        Assert.Equal(Http2Reason.StreamClosed, numbers.Open(5));
        Assert.True(numbers.IsIdle(7) && numbers.IsIdle(4) && !numbers.IsIdle(1));
        var ours = default(StreamNumbers);
        Assert.Equal(1u, ours.TakeNext());
        Assert.Equal(3u, ours.TakeNext());
    }

    [Fact]
    public void AWindowNeverExceedsItsLimit()
    {
        var window = new SendWindow(10);
        Assert.Equal(10, window.Take(11));
        Assert.False(window.IsOpen);
        Assert.True(window.TryGrow(int.MaxValue));
        Assert.False(window.TryGrow(1));
        Assert.Equal(int.MaxValue, window.Size);
        window = new SendWindow(100);
        window.Take(100);
        Assert.True(window.TryAdjust(100, 20));
        Assert.Equal(-80, window.Size);
        Assert.Equal(0, window.Take(1));
        Assert.True(window.TryGrow(81));
        Assert.Equal(1, window.Take(5));
        Assert.True(new SendWindow(int.MaxValue - 1).TryAdjust(0, 1));
        Assert.False(new SendWindow(int.MaxValue).TryAdjust(0, 1));
    }

    [Fact]
    public void AReceiverTellsOfHalfAWindowAtATime()
    {
        var window = new ReceiveWindow(100);
        Assert.False(window.TryReceive(101));
        Assert.True(window.TryReceive(100));
        Assert.False(window.TryReceive(1));
        Assert.Equal(0, window.Consume(49));
        Assert.Equal(50, window.Consume(1));
        Assert.True(window.TryReceive(50));
        Assert.Equal(0, window.Consume(20));
        Assert.Equal(20, window.Flush());
        Assert.Equal(100, window.Resize(200));
    }

    [Theory]
    [InlineData("", 3, false)]
    [InlineData("u=0, i", 0, true)]
    [InlineData("i=?0,u=7", 7, false)]
    [InlineData("u=8, i=?1", 3, true)]
    [InlineData("u=1;x=2 , other=\"a\", i;q", 1, true)]
    [InlineData("u=1, u=2", 2, false)]
    public void APriorityIsAsFarAsItCanBeRead(string text, byte urgency, bool incremental)
    {
        StreamPriority priority = StreamPriority.Parse(Encoding.ASCII.GetBytes(text));
        Assert.Equal((urgency, incremental), (priority.Urgency, priority.Incremental));
    }

    [Fact]
    public void AHeaderBlockIsPutTogetherWithinItsLimits()
    {
        Assert.Equal("None abcdef", Collect(6, 2, "ab", "cd", "ef"));
        Assert.Equal("HeaderBlockTooLarge", Collect(5, 2, "ab", "cd", "ef"));
        Assert.Equal("TooManyContinuations", Collect(6, 1, "ab", "cd", "ef"));
        Assert.Equal("None abc", Collect(3, 0, "abc"));
    }

    private static string Collect(int bytesMax, int continuationsMax, params string[] frames)
    {
        var bytes = new List<byte>(new byte[] { 0, 0, 0, 4, 0, 0, 0, 0, 0 });
        for (int i = 0; i < frames.Length; i++)
        {
            byte[] head = new byte[9];
            FrameWriter.Header(head, i == 0 ? FrameType.Headers : FrameType.Continuation,
                i == frames.Length - 1 ? FrameFlags.EndHeaders : FrameFlags.None, 1, frames[i].Length);
            bytes.AddRange([.. head, .. Encoding.ASCII.GetBytes(frames[i])]);
        }
        var block = new HeaderBlock(bytesMax, continuationsMax);
        var reader = new FrameReader(fromClient: true);
        ReadOnlySpan<byte> input = bytes.ToArray();
        while (true)
        {
            if (reader.Read(ref input, out FramePiece piece) != FrameEvent.Headers)
            {
                continue;
            }
            Http2Reason reason = block.Add(in piece, out ReadOnlySpan<byte> all);
            if (reason != Http2Reason.None || piece.EndsBlock)
            {
                return reason == Http2Reason.None ? $"None {Encoding.ASCII.GetString(all)}" : $"{reason}";
            }
        }
    }
}
