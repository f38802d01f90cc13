// A question to a name server over TCP, for answers that do not fit into a datagram (RFC 7766): one connection, one
// question, closed afterwards. One loop's thread; ends by itself, or when the resolver is closed.
using System.Buffers.Binary;
using Weir.Loop;
using Weir.Protocol.Dns;

namespace Weir.Session.Upstream;

internal sealed class ResolverStream(Resolver resolver, ushort id)
{
    private const int LengthBytes = 2;

    private Connection? _connection;

    public ushort Id { get; } = id;

    /// <summary>Asks and hands the answer to the resolver; an empty one when none came until
    /// <paramref name="deadlineMs"/>.</summary>
    public async LoopTask<Unit> AskAsync(EventLoop loop, byte[] server, byte[] name, DnsType type, long deadlineMs)
    {
        byte[] answer = [];
        LoopTask<ConnectOutcome> connecting = loop.ConnectAsync(server, default,
            (int)Math.Clamp(deadlineMs - loop.NowMs, 1, int.MaxValue), out Connection connection);
        _connection = connection;
        ConnectOutcome outcome = await connecting;
        if (!outcome.IsError)
        {
            connection.SendTimeoutMs = (int)Math.Clamp(deadlineMs - loop.NowMs, 1, int.MaxValue);
            answer = Question(name, type) is { Length: > 0 } question
                ? await ExchangeAsync(loop, connection, question, deadlineMs) : [];
            if (_connection is not null)
            {
                connection.Close();
            }
        }
        _connection = null;
        resolver.OnStreamEnd(this, answer);
        return default;
    }

    private byte[] Question(byte[] name, DnsType type)
    {
        byte[] query = new byte[LengthBytes + DnsCodec.QueryMax];
        int length = DnsCodec.WriteQuery(Id, name, type, query.AsSpan(LengthBytes));
        BinaryPrimitives.WriteUInt16BigEndian(query, (ushort)length);
        return length == 0 ? [] : query[..(LengthBytes + length)];
    }

    private static async LoopTask<byte[]> ExchangeAsync(EventLoop loop, Connection connection, byte[] question,
        long deadlineMs)
    {
        var chain = new BufferChain(loop.Buffers);
        chain.Append(question);
        bool sent = connection.Send(chain) && !(await connection.DrainAsync(chain)).IsError;
        chain.Clear();
        byte[] got = new byte[LengthBytes];
        for (int filled = 0; sent && filled < got.Length;)
        {
            connection.SetReadDeadline(deadlineMs);
            RecvLease lease = await connection.ReceiveAsync(Math.Min(got.Length - filled, BufferPool.StandardSize));
            if (lease.IsEnd || lease.IsError)
            {
                return [];
            }
            lease.Span.CopyTo(got.AsSpan(filled));
            filled += lease.Length;
            lease.Release();
            if (filled == LengthBytes && got.Length == LengthBytes)
            {
                Array.Resize(ref got, LengthBytes + BinaryPrimitives.ReadUInt16BigEndian(got));
            }
        }
        return sent ? got[LengthBytes..] : [];
    }

    /// <summary>The resolver is gone.</summary>
    public void Close()
    {
        Connection? connection = _connection;
        _connection = null;
        connection?.Close();
    }
}
