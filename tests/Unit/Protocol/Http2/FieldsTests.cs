// What a request or response may say in its fields: each row names the reason; and the head that comes of a good one.
using System.Text;
using Weir.Protocol.Http1;
using Weir.Protocol.Http2;
using Xunit;

namespace Weir.Tests.Unit.Protocol.Http2;

public class FieldsTests
{
    private const string Good = ":method: GET|:scheme: https|:path: /a?b|:authority: h.test";

    private static (string Name, string Value)[] Split(string fields) =>
        [.. fields.Split('|').Select(static f =>
        {
            int colon = f.IndexOf(": ", StringComparison.Ordinal);
            return (f[..colon], f[(colon + 2)..]);
        })];

    private static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

    private static Http2Reason Read(string fields, out RequestHead head, out string text, bool end = true,
        bool extended = false, int room = 4096)
    {
        head = new RequestHead();
        byte[] memory = new byte[room];
        var sink = new RequestFields(memory, head, new ParseOptions(), extended);
        foreach ((string name, string value) in Split(fields))
        {
            sink.Field(Bytes(name), Bytes(value), 0, false);
        }
        Http2Reason reason = sink.Finish(end);
        text = Encoding.Latin1.GetString(memory, 0, head.HeadLength);
        return reason;
    }

    [Fact]
    public void ARequestBecomesTheHeadThatHttp1WouldHave()
    {
        Assert.Equal(Http2Reason.None, Read(Good + "|cookie: a=1|accept: */*|cookie: b=2|cookie: c=3",
            out RequestHead head, out string text));
        Assert.Equal("GET /a?b HTTP/2.0\r\nhost: h.test\r\naccept: */*\r\ncookie: a=1; b=2; c=3\r\n\r\n", text);
        byte[] bytes = Bytes(text);
        Assert.Equal(Weir.Protocol.Http1.HttpMethod.Get, head.Method);
        Assert.Equal(20, head.Version);
        Assert.Equal("/a", Encoding.Latin1.GetString(head.Path.Of(bytes)));
        Assert.Equal("b", Encoding.Latin1.GetString(head.Query.Of(bytes)));
        Assert.Equal("h.test", Encoding.Latin1.GetString(head.Host.Of(bytes)));
        Assert.Equal("a=1; b=2; c=3", Encoding.Latin1.GetString(head.Value(KnownHeader.Cookie, bytes)));
        Assert.Equal("*/*", Encoding.Latin1.GetString(head.Value(KnownHeader.Accept, bytes)));
        Assert.False(head.HasBody);
    }

    [Fact]
    public void ABodyWithoutALengthIsAsIfItCameInChunks()
    {
        Assert.Equal(Http2Reason.None, Read(Good, out RequestHead head, out _, end: false));
        Assert.True(head.Chunked);
        Assert.Equal(Http2Reason.None, Read(Good + "|content-length: 5", out head, out _, end: false));
        Assert.False(head.Chunked);
        Assert.Equal(5, head.ContentLength);
    }

    [Fact]
    public void AnExtendedConnectIsAnUpgrade()
    {
        const string fields = ":method: CONNECT|:protocol: websocket|:scheme: https|:path: /chat|:authority: h.test";
        Assert.Equal(Http2Reason.None, Read(fields, out RequestHead head, out string text, end: false, extended: true));
        Assert.StartsWith("GET /chat HTTP/2.0\r\n", text, StringComparison.Ordinal);
        Assert.Contains("upgrade: websocket\r\nconnection: upgrade\r\n", text, StringComparison.Ordinal);
        Assert.True(head.UpgradeRequested);
        Assert.False(head.HasBody);
        Assert.Equal(Http2Reason.UnknownPseudo, Read(fields, out _, out _));
    }

    [Theory]
    [InlineData(":scheme: https|:path: /", Http2Reason.MissingMethod)]
    [InlineData(":method: GET|:path: /", Http2Reason.MissingScheme)]
    [InlineData(":method: GET|:scheme: https|a: b", Http2Reason.MissingPath)]
    [InlineData(":method: GET|:method: GET|:scheme: https|:path: /", Http2Reason.DuplicatePseudo)]
    [InlineData(":method: GET|:scheme: https|:path: /|a: b|:authority: h", Http2Reason.PseudoAfterField)]
    [InlineData(Good + "|a: b|:path: /", Http2Reason.PseudoAfterField)]
    [InlineData(Good + "|:status: 200", Http2Reason.UnknownPseudo)]
    [InlineData(Good + "|:other: x", Http2Reason.UnknownPseudo)]
    [InlineData(":method: G T|:scheme: https|:path: /", Http2Reason.InvalidMethod)]
    [InlineData(":method: GET|:scheme: 1s|:path: /", Http2Reason.InvalidScheme)]
    [InlineData(":method: GET|:scheme: https|:path: ", Http2Reason.InvalidPath)]
    [InlineData(":method: GET|:scheme: https|:path: a|:authority: h", Http2Reason.InvalidPath)]
    [InlineData(":method: GET|:scheme: https|:path: /a b|:authority: h", Http2Reason.InvalidPath)]
    [InlineData(":method: GET|:scheme: https|:path: /a\r\nb: c|:authority: h", Http2Reason.InvalidPath)]
    [InlineData(":method: GET|:scheme: https|:path: /|:authority: a\r\nb", Http2Reason.InvalidAuthority)]
    [InlineData(Good + "|host: other.test", Http2Reason.AuthorityDiffersFromHost)]
    [InlineData(":method: CONNECT|:authority: h:1|:scheme: https|:path: /", Http2Reason.InvalidConnect)]
    [InlineData(":method: CONNECT|a: b", Http2Reason.InvalidConnect)]
    [InlineData(":method: CONNECT|:authority: nohost", Http2Reason.InvalidAuthority)]
    [InlineData(Good + "|Accept: x", Http2Reason.UpperCaseFieldName)]
    [InlineData(Good + "|: x", Http2Reason.EmptyFieldName)]
    [InlineData(Good + "|a b: x", Http2Reason.InvalidFieldName)]
    [InlineData(Good + "|a:b: x", Http2Reason.InvalidFieldName)]
    [InlineData(Good + "|a: x\r\ny: z", Http2Reason.InvalidFieldValue)]
    [InlineData(Good + "|a: x\0y", Http2Reason.InvalidFieldValue)]
    [InlineData(Good + "|a:  x", Http2Reason.InvalidFieldValue)]
    [InlineData(Good + "|a: x\t", Http2Reason.InvalidFieldValue)]
    [InlineData(Good + "|connection: close", Http2Reason.ConnectionField)]
    [InlineData(Good + "|keep-alive: 5", Http2Reason.ConnectionField)]
    [InlineData(Good + "|proxy-connection: x", Http2Reason.ConnectionField)]
    [InlineData(Good + "|transfer-encoding: chunked", Http2Reason.ConnectionField)]
    [InlineData(Good + "|upgrade: x", Http2Reason.ConnectionField)]
    [InlineData(Good + "|te: gzip", Http2Reason.InvalidTe)]
    [InlineData(Good + "|content-length: 5", Http2Reason.ContentLengthMismatch)]
    public void ABadRequestIsNamed(string fields, Http2Reason reason)
    {
        Assert.Equal(reason, Read(fields, out _, out _));
        Assert.Equal(FaultScope.Stream, Http2Reasons.Of(reason).Scope);
    }

    [Theory]
    [InlineData(Good + "|te: trailers")]
    [InlineData(Good + "|host: H.test")]
    [InlineData(Good + "|a: ")]
    [InlineData(":method: CONNECT|:authority: h.test:443")]
    public void AGoodRequestIsTaken(string fields) => Assert.Equal(Http2Reason.None, Read(fields, out _, out _));

    [Theory]
    [InlineData(":method: GET|:scheme: https|:path: /", RejectReason.MissingHost)]
    [InlineData(":method: GET|:scheme: https|:path: /|:authority: a_b/c", RejectReason.InvalidHost)]
    [InlineData(Good + "|content-length: 1|content-length: 1", RejectReason.DuplicateContentLength)]
    [InlineData(Good + "|content-length: x", RejectReason.InvalidContentLength)]
    [InlineData(Good + "|authorization: a|authorization: b", RejectReason.DuplicateHeader)]
    public void WhatHttp1AnswersWithAStatusSoDoesHttp2(string fields, RejectReason reason)
    {
        Assert.Equal(Http2Reason.None, Read(fields, out RequestHead head, out _, end: false));
        Assert.Equal(reason, head.Reject);
    }

    [Fact]
    public void AHeadThatHasNoRoomIsTooLargeWhereverThatShows()
    {
        const string fields = Good + "|cookie: a=1|accept: */*|cookie: b=2";
        Assert.Equal(Http2Reason.None, Read(fields, out _, out string text));
        bool fits = false;
        for (int room = 0; room < text.Length * 2; room++)
        {
            Http2Reason reason = Read(fields, out _, out string got, room: room);
            Assert.True(reason is Http2Reason.None or Http2Reason.HeaderListTooLarge);
            Assert.True(!fits || reason == Http2Reason.None);
            fits |= reason == Http2Reason.None;
            Assert.True(reason != Http2Reason.None || got == text);
        }
        Assert.True(fits);
    }

    [Theory]
    [InlineData(":status: 200|a: b", Http2Reason.None)]
    [InlineData("a: b", Http2Reason.MissingStatus)]
    [InlineData(":status: 20", Http2Reason.InvalidStatus)]
    [InlineData(":status: abc", Http2Reason.InvalidStatus)]
    [InlineData(":status: 101", Http2Reason.InvalidStatus)]
    [InlineData(":status: 200|:status: 200", Http2Reason.DuplicatePseudo)]
    [InlineData(":status: 200|a: b|:status: 200", Http2Reason.PseudoAfterField)]
    [InlineData(":path: /", Http2Reason.UnknownPseudo)]
    [InlineData(":status: 200|connection: close", Http2Reason.ConnectionField)]
    [InlineData(":status: 200|content-length: x", Http2Reason.InvalidContentLength)]
    [InlineData(":status: 200|content-length: 1|content-length: 1", Http2Reason.InvalidContentLength)]
    public void AResponseIsReadOrNamed(string fields, Http2Reason reason)
    {
        var head = new ResponseHead();
        byte[] memory = new byte[1000];
        var sink = new ResponseFields(memory, head, 10);
        foreach ((string name, string value) in Split(fields))
        {
            sink.Field(Bytes(name), Bytes(value), 0, false);
        }
        Assert.Equal(reason, sink.Finish());
        if (reason == Http2Reason.None)
        {
            Assert.Equal("HTTP/2.0 200\r\na: b\r\n\r\n", Encoding.Latin1.GetString(memory, 0, head.HeadLength));
            Assert.Equal(200, head.Status);
        }
    }

    [Fact]
    public void TrailersAreLines()
    {
        byte[] memory = new byte[40];
        var sink = new TrailerFields(memory);
        sink.Field("grpc-status"u8, "0"u8, 0, false);
        Assert.Equal("grpc-status: 0\r\n", Encoding.Latin1.GetString(memory, 0, sink.Length));
        sink.Field(":status"u8, "200"u8, 0, false);
        Assert.Equal(Http2Reason.PseudoInTrailers, sink.Reason);
    }
}
