// An upstream server of HTTP/2 whose frames a seed draws: it reads what it is asked, answers in pieces, opens windows,
// pings, and breaks what it says where the seed wants it. With nothing broken it answers every request with 200.
using Weir.Loop;
using Weir.Protocol.Http2;
using Weir.Tests.Harness;

namespace Weir.Tests.Simulation;

/// <summary>One connection of such a server.</summary>
/// <param name="loop">The loop of the run.</param>
/// <param name="draw">The seed's numbers.</param>
/// <param name="peer">The connection.</param>
/// <param name="broken">How many of a thousand frames are broken.</param>
/// <param name="wild">How many of a thousand answers are not answers: resets, GOAWAY, an end; none when nothing is
/// broken.</param>
internal sealed class Http2OriginDraw(InMemoryLoop loop, SeededRandom draw, SimulatedPeer peer, int broken, int wild)
{
    private readonly Http2Draw _breaker = new(draw, ["/"]);
    private readonly List<int> _asked = [];
    private bool _isGone;
    private int _taken;

    internal async LoopTask PlayAsync()
    {
        Say(Http2Client.Settings(draw.Chance(300)
            ? [(SettingId.MaxConcurrentStreams, 1 + (uint)draw.Below(20))]
            : draw.Chance(300) ? [(SettingId.InitialWindowSize, 1000 + (uint)draw.Size(200_000))] : []));
        while (!peer.IsOver && !_isGone)
        {
            Read();
            if (_asked.Count == 0)
            {
                await peer.ArrivedAsync();
                continue;
            }
            int at = draw.Below(_asked.Count);
            int stream = _asked[at];
            _asked.RemoveAt(at);
            if (draw.Chance(400))
            {
                await loop.DelayAsync(draw.Below(8));
            }
            if (broken > 0 && draw.Chance(wild))
            {
                Misbehave(stream);
                continue;
            }
            await AnswerAsync(stream);
        }
        peer.Close();
    }

    private void Misbehave(int stream)
    {
        switch (draw.Below(6))
        {
            case 0:
                Say(Http2Client.RstStream(stream, (Http2Error)draw.Below(14)));
                break;
            case 1:
                Say(Http2Client.Frame(FrameType.GoAway, 0, 0,
                    [.. Http2Client.Word((uint)draw.Below(stream + 4)), .. Http2Client.Word((uint)draw.Below(14))]));
                break;
            case 2:
                peer.Reset();
                _isGone = true;
                break;
            case 3:
                _isGone = true;
                break;
            case 4:
                // Silence on this stream.
                break;
            default:
                byte[] noise = new byte[draw.Size(200)];
                draw.Fill(noise);
                Say(noise);
                break;
        }
    }

    private async LoopTask AnswerAsync(int stream)
    {
        if (draw.Chance(100))
        {
            Say(Http2Client.Headers(stream, false, ":status: 103", "link: </a>"));
        }
        int length = draw.Chance(200) ? 0 : draw.Size(20_000);
        bool says = draw.Chance(500);
        bool trailers = draw.Chance(300);
        string[] head = [":status: 200", "content-type: text/plain", "x-filler: " + new string('f', draw.Below(200))];
        Say(Http2Client.Headers(stream, length == 0 && !trailers,
            says ? [.. head, "content-length: " + length] : head));
        while (length > 0 && !peer.IsOver)
        {
            int part = Math.Min(draw.Size(length), Math.Min(length, 16_384));
            length -= part;
            Say(Http2Client.Data(stream, new string('d', part), length == 0 && !trailers));
            if (draw.Chance(200))
            {
                Say(draw.Chance(500) ? Http2Client.Ping(draw.Next()) : Http2Client.WindowUpdate(0, 1000));
            }
            if (draw.Chance(200))
            {
                await loop.DelayAsync(draw.Below(4));
            }
        }
        if (trailers)
        {
            Say(Http2Client.Headers(stream, true, "grpc-status: 0", "x-last: yes"));
        }
    }

    private void Say(byte[] bytes) => peer.Send(draw.Chance(broken) ? _breaker.Broken(bytes) : bytes);

    /// <summary>Takes whole frames: who has asked completely is to be answered, what takes windows gets them
    /// back.</summary>
    private void Read()
    {
        if (_taken == 0)
        {
            if (peer.Bytes.Length < Http2Limits.Preface.Length)
            {
                return;
            }
            peer.Drop(Http2Limits.Preface.Length);
            _taken = 1;
        }
        while (peer.Bytes.Length >= Http2Limits.FrameHeaderBytes)
        {
            var head = FrameHeader.Read(peer.Bytes);
            if (peer.Bytes.Length < Http2Limits.FrameHeaderBytes + head.Length)
            {
                return;
            }
            peer.Drop(Http2Limits.FrameHeaderBytes + head.Length);
            if (head.Type == FrameType.Settings && !head.Has(FrameFlags.Ack))
            {
                Say(Http2Client.SettingsAck());
            }
            if (head.Type == FrameType.Data && head.Length > 0)
            {
                Say(Http2Client.WindowUpdate(0, (uint)head.Length));
                if (!head.EndsStream)
                {
                    Say(Http2Client.WindowUpdate((int)head.StreamId, (uint)head.Length));
                }
            }
            if (head.EndsStream)
            {
                _asked.Add((int)head.StreamId);
            }
        }
    }
}
