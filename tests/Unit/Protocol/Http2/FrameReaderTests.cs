// Frames in any pieces, and every rule that a frame alone can break: each row names what is said about it.
using System.Text;
using Weir.Protocol.Http2;
using Xunit;

namespace Weir.Tests.Unit.Protocol.Http2;

public class FrameReaderTests
{
    private static byte[] Frame(FrameType type, int flags, uint stream, params byte[] payload)
    {
        byte[] bytes = new byte[9 + payload.Length];
        new FrameHeader(payload.Length, type, (FrameFlags)flags, stream).Write(bytes);
        payload.CopyTo(bytes, 9);
        return bytes;
    }

    private static readonly byte[] Settings = Frame(FrameType.Settings, 0, 0);

    /// <summary>What the reader says, pieces of data and of header blocks put together.</summary>
    internal static string Say(byte[] bytes, Func<int> pieceSize, bool fromClient = true, int frameSizeMax = 16_384)
    {
        var reader = new FrameReader(fromClient) { FrameSizeMax = frameSizeMax };
        var said = new StringBuilder();
        var run = new StringBuilder();
        int flow = 0;
        for (int at = 0; at < bytes.Length;)
        {
            int size = Math.Min(bytes.Length - at, pieceSize());
            ReadOnlySpan<byte> input = bytes.AsSpan(at, size);
            at += size;
            while (true)
            {
                FrameEvent e = reader.Read(ref input, out FramePiece piece);
                if (e == FrameEvent.NeedMore)
                {
                    break;
                }
                if (e is FrameEvent.Data or FrameEvent.Headers)
                {
                    run.Append(Encoding.Latin1.GetString(piece.Bytes));
                    flow += piece.FlowBytes;
                    if (piece.Last)
                    {
                        said.Append($"{e} {piece.StreamId} '{run}' {flow}{(piece.EndsStream ? " end" : "")}"
                            + $"{(e == FrameEvent.Headers && piece.EndsBlock ? " block" : "")}; ");
                        run.Clear();
                        flow = 0;
                    }
                    continue;
                }
                said.Append(e switch
                {
                    FrameEvent.Setting => $"{piece.Id}={piece.Value}; ",
                    FrameEvent.Ping => $"ping {piece.Header.Flags} {piece.Opaque:x}; ",
                    FrameEvent.GoAway => $"goaway {piece.StreamId} {Http2Errors.Name(piece.Error)}; ",
                    FrameEvent.RstStream => $"rst {piece.StreamId} {Http2Errors.Name(piece.Error)}; ",
                    FrameEvent.WindowUpdate => $"window {piece.StreamId} {piece.Value}; ",
                    FrameEvent.PriorityUpdate =>
                        $"priority {piece.StreamId} u={piece.Priority.Urgency} {piece.Priority.Incremental}; ",
                    FrameEvent.Fault => $"{piece.Reason} {piece.StreamId}; ",
                    _ => $"{e}; ",
                });
            }
            Assert.True(input.IsEmpty);
        }
        return said.ToString();
    }

    private static void Says(string expected, params byte[][] frames)
    {
        byte[] bytes = [.. frames.SelectMany(static f => f)];
        Assert.Equal(expected, Say(bytes, () => bytes.Length));
        for (int size = 1; size < 12; size++)
        {
            Assert.Equal(expected, Say(bytes, () => size));
        }
    }

    [Fact]
    public void FramesAreReadInAnyPieces() => Says(
        "InitialWindowSize=65535; EnablePush=0; SettingsEnd; SettingsAck; ping None 102030405060708; "
            + "window 0 65536; Headers 1 'abc' 0; Headers 1 'def' 0 block; Data 1 'hello' 5; Data 1 '' 0 end; "
            + "rst 3 CANCEL; goaway 5 ENHANCE_YOUR_CALM; Unknown; Priority; priority 7 u=1 True; ping Ack 0; ",
        Frame(FrameType.Settings, 0, 0, 0, 4, 0, 0, 255, 255, 0, 2, 0, 0, 0, 0), Frame(FrameType.Settings, 1, 0),
        Frame(FrameType.Ping, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), Frame(FrameType.WindowUpdate, 0, 0, 0, 1, 0, 0),
        Frame(FrameType.Headers, 0, 1, [.. "abc"u8]), Frame(FrameType.Continuation, 4, 1, [.. "def"u8]),
        Frame(FrameType.Data, 0, 1, [.. "hello"u8]), Frame(FrameType.Data, 1, 1),
        Frame(FrameType.RstStream, 0, 3, 0, 0, 0, 8),
        Frame(FrameType.GoAway, 0, 0, [0, 0, 0, 5, 0, 0, 0, 11, .. "because"u8]),
        Frame((FrameType)0xfe, 0, 9, 1, 2, 3), Frame(FrameType.Priority, 0, 3, 0, 0, 0, 0, 16),
        Frame(FrameType.PriorityUpdate, 0, 0, [0, 0, 0, 7, .. "u=1, i"u8]),
        Frame(FrameType.Ping, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0));

    [Fact]
    public void PaddingIsTakenOffAndCountsForFlowControl() => Says(
        "SettingsEnd; Headers 1 'abc' 0 end block; Data 3 'hello' 9 end; Data 3 '' 4; Headers 5 'x' 0 block; ",
        Settings,
        Frame(FrameType.Headers, 0x2d, 1, [2, 0, 0, 0, 0, 16, .. "abc"u8, 0, 0]),
        Frame(FrameType.Data, 9, 3, [3, .. "hello"u8, 0, 0, 0]), Frame(FrameType.Data, 8, 3, 3, 0, 0, 0),
        Frame(FrameType.Headers, 0x24, 5, [0, 0, 0, 0, 16, .. "x"u8]));

    public static TheoryData<string, byte[]> Broken => new()
    {
        { "FirstFrameNotSettings 0; ", Frame(FrameType.Ping, 0, 0, new byte[8]) },
        { "FirstFrameNotSettings 0; ", Frame(FrameType.Settings, 1, 0) },
        { "SettingsEnd; FrameTooLarge 1; ", [.. Settings, .. Frame(FrameType.Data, 0, 1, new byte[16_385])] },
        { "SettingsEnd; Headers 1 '' 0; ContinuationExpected 1; ",
            [.. Settings, .. Frame(FrameType.Headers, 0, 1), .. Frame(FrameType.Data, 0, 1)] },
        { "SettingsEnd; Headers 1 '' 0; ContinuationExpected 3; ",
            [.. Settings, .. Frame(FrameType.Headers, 0, 1), .. Frame(FrameType.Continuation, 4, 3)] },
        { "SettingsEnd; Headers 1 '' 0; ContinuationExpected 0; ",
            [.. Settings, .. Frame(FrameType.Headers, 0, 1), .. Frame(FrameType.Ping, 0, 0, new byte[8])] },
        { "SettingsEnd; Headers 1 '' 0; ContinuationExpected 1; ",
            [.. Settings, .. Frame(FrameType.Headers, 0, 1), .. Frame((FrameType)0x42, 0, 1)] },
        { "SettingsEnd; ContinuationUnexpected 1; ", [.. Settings, .. Frame(FrameType.Continuation, 4, 1)] },
        { "SettingsEnd; StreamIdZero 0; ", [.. Settings, .. Frame(FrameType.Data, 0, 0)] },
        { "SettingsEnd; StreamIdZero 0; ", [.. Settings, .. Frame(FrameType.Headers, 4, 0)] },
        { "SettingsEnd; StreamIdZero 0; ", [.. Settings, .. Frame(FrameType.Priority, 0, 0, new byte[5])] },
        { "SettingsEnd; StreamIdZero 0; ", [.. Settings, .. Frame(FrameType.RstStream, 0, 0, new byte[4])] },
        { "SettingsEnd; StreamIdZero 0; ", [.. Settings, .. Frame(FrameType.Continuation, 0, 0)] },
        { "StreamIdNotZero 1; ", Frame(FrameType.Settings, 0, 1) },
        { "SettingsEnd; StreamIdNotZero 1; ", [.. Settings, .. Frame(FrameType.Ping, 0, 1, new byte[8])] },
        { "SettingsEnd; StreamIdNotZero 1; ", [.. Settings, .. Frame(FrameType.GoAway, 0, 1, new byte[8])] },
        { "SettingsEnd; StreamIdNotZero 1; ", [.. Settings, .. Frame(FrameType.PriorityUpdate, 0, 1, new byte[8])] },
        { "SettingsEnd; PaddingTooLong 1; ", [.. Settings, .. Frame(FrameType.Data, 8, 1, 3, 0, 0)] },
        { "SettingsEnd; PaddingTooLong 1; ", [.. Settings, .. Frame(FrameType.Headers, 0xc, 1, 3, 0, 0)] },
        { "SettingsEnd; PaddingTooLong 1; ",
            [.. Settings, .. Frame(FrameType.Headers, 0x2c, 1, 1, 0, 0, 0, 0, 0)] },
        { "SettingsEnd; FrameTooShort 1; ", [.. Settings, .. Frame(FrameType.Data, 8, 1)] },
        { "SettingsEnd; FrameTooShort 1; ", [.. Settings, .. Frame(FrameType.Headers, 0x24, 1, 0, 0, 0, 0)] },
        { "SettingsEnd; FrameTooShort 0; ", [.. Settings, .. Frame(FrameType.GoAway, 0, 0, new byte[7])] },
        { "SettingsEnd; PriorityLength 1; SettingsEnd; ",
            [.. Settings, .. Frame(FrameType.Priority, 0, 1, new byte[4]), .. Settings] },
        { "SettingsEnd; PriorityLength 1; SettingsEnd; ",
            [.. Settings, .. Frame(FrameType.Priority, 0, 1, new byte[90]), .. Settings] },
        { "SettingsEnd; PriorityLength 1; SettingsEnd; ",
            [.. Settings, .. Frame(FrameType.Priority, 0, 1), .. Settings] },
        { "SettingsEnd; RstStreamLength 1; ", [.. Settings, .. Frame(FrameType.RstStream, 0, 1, new byte[5])] },
        { "SettingsLength 0; ", Frame(FrameType.Settings, 0, 0, new byte[5]) },
        { "SettingsEnd; SettingsAckLength 0; ", [.. Settings, .. Frame(FrameType.Settings, 1, 0, new byte[6])] },
        { "SettingEnablePush 0; ", Frame(FrameType.Settings, 0, 0, 0, 2, 0, 0, 0, 2) },
        { "SettingInitialWindow 0; ", Frame(FrameType.Settings, 0, 0, 0, 4, 0x80, 0, 0, 0) },
        { "SettingMaxFrameSize 0; ", Frame(FrameType.Settings, 0, 0, 0, 5, 0, 0, 0x3f, 0xff) },
        { "SettingMaxFrameSize 0; ", Frame(FrameType.Settings, 0, 0, 0, 5, 1, 0, 0, 0) },
        { "SettingEnableConnect 0; ", Frame(FrameType.Settings, 0, 0, 0, 8, 0, 0, 0, 2) },
        { "SettingNoPriorities 0; ", Frame(FrameType.Settings, 0, 0, 0, 9, 0, 0, 0, 2) },
        { "SettingsEnd; PushPromise 1; ", [.. Settings, .. Frame(FrameType.PushPromise, 4, 1, new byte[4])] },
        { "SettingsEnd; PingLength 0; ", [.. Settings, .. Frame(FrameType.Ping, 0, 0, new byte[7])] },
        { "SettingsEnd; WindowUpdateLength 1; ", [.. Settings, .. Frame(FrameType.WindowUpdate, 0, 1, 1)] },
        { "SettingsEnd; WindowIncrementZero 1; SettingsEnd; ",
            [.. Settings, .. Frame(FrameType.WindowUpdate, 0, 1, 0x80, 0, 0, 0), .. Settings] },
        { "SettingsEnd; ConnectionIncrementZero 0; ",
            [.. Settings, .. Frame(FrameType.WindowUpdate, 0, 0, 0, 0, 0, 0)] },
        { "SettingsEnd; PriorityUpdateLength 0; ",
            [.. Settings, .. Frame(FrameType.PriorityUpdate, 0, 0, new byte[3])] },
        { "SettingsEnd; PriorityUpdateStream 0; ",
            [.. Settings, .. Frame(FrameType.PriorityUpdate, 0, 0, new byte[4])] },
    };

    [Theory]
    [MemberData(nameof(Broken))]
    public void ABrokenFrameIsNamed(string expected, byte[] bytes) => Says(expected, bytes);

    [Fact]
    public void AServerMustNotAskToBePushedTo()
    {
        byte[] bytes = Frame(FrameType.Settings, 0, 0, 0, 2, 0, 0, 0, 1);
        Assert.Equal("SettingEnablePush 0; ", Say(bytes, () => 100, fromClient: false));
        Assert.Equal("EnablePush=1; SettingsEnd; ", Say(bytes, () => 100));
    }

    [Fact]
    public void AFrameOfTheSizeWeAllowIsRead()
    {
        byte[] bytes = [.. Settings, .. Frame(FrameType.Data, 0, 1, new byte[20_000])];
        Assert.EndsWith("20000; ", Say(bytes, () => 7000, frameSizeMax: 20_000));
        Assert.EndsWith("FrameTooLarge 1; ", Say(bytes, () => 7000, frameSizeMax: 19_999));
    }

    [Fact]
    public void WhatTheWriterWritesTheReaderReads()
    {
        byte[] bytes = new byte[200];
        Span<byte> to = bytes;
        int n = FrameWriter.Settings(to, 2);
        n += FrameWriter.Setting(to[n..], SettingId.MaxConcurrentStreams, 128);
        n += FrameWriter.Setting(to[n..], SettingId.MaxFrameSize, 16_777_215);
        n += FrameWriter.SettingsAck(to[n..]);
        n += FrameWriter.Ping(to[n..], true, 0xdeadbeef);
        n += FrameWriter.WindowUpdate(to[n..], 5, int.MaxValue);
        n += FrameWriter.RstStream(to[n..], 5, Http2Error.RefusedStream);
        n += FrameWriter.GoAway(to[n..], 7, Http2Error.NoError);
        n += FrameWriter.Header(to[n..], FrameType.Data, FrameFlags.EndStream, 0x7fffffff, 0);
        Assert.Equal("MaxConcurrentStreams=128; MaxFrameSize=16777215; SettingsEnd; SettingsAck; ping Ack deadbeef; "
            + "window 5 2147483647; rst 5 REFUSED_STREAM; goaway 7 NO_ERROR; Data 2147483647 '' 0 end; ",
            Say(bytes[..n], () => n));
    }

    [Fact]
    public void EveryReasonHasASectionAndWords()
    {
        foreach (Http2Reason reason in Enum.GetValues<Http2Reason>())
        {
            Http2Fault fault = Http2Reasons.Of(reason);
            Assert.Equal(reason == Http2Reason.None, fault.Section.Length == 0);
            Assert.Equal(reason == Http2Reason.None, fault.Text.Length == 0);
            Assert.Equal(reason == Http2Reason.None, fault.Scope == FaultScope.None);
        }
        Assert.All(Enum.GetValues<Http2Error>(), static e => Assert.NotEqual("unknown error", Http2Errors.Name(e)));
    }
}
