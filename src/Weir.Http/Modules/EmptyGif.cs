// empty_gif: a transparent picture of one pixel, from memory. Keeps nothing.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal sealed class EmptyGifModule : HttpModule
{
    public override string Name => "http_empty_gif";

    public override void Declare(HttpDeclarations d) => d.Block("empty_gif", static u =>
        u.Block.Core.ContentHandler = new EmptyGifHandler());
}

internal sealed class EmptyGifHandler : PhaseHandler
{
    // Mon, 28 Sep 1970 06:00:00 GMT, the time that nginx gives it.
    private const long ModifiedSec = 23_349_600;

    private static ReadOnlySpan<byte> Picture =>
    [
        (byte)'G', (byte)'I', (byte)'F', (byte)'8', (byte)'9', (byte)'a',
        // The screen: one by one, a table of two colours.
        1, 0, 1, 0, 0x80, 1, 0,
        0, 0, 0, 0xFF, 0xFF, 0xFF,
        // The first colour is transparent.
        0x21, 0xF9, 4, 1, 0, 0, 1, 0,
        // The picture and its one pixel.
        0x2C, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x4C, 1, 0,
        0x3B,
    ];

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Method is not (HttpMethod.Get or HttpMethod.Head))
        {
            return PhaseResult.Answer(405);
        }
        r.Response.Status = 200;
        r.Response.ContentType = NativeSlice.Literal("image/gif"u8);
        r.Response.LastModified = ModifiedSec;
        return r.SendComplete(NativeSlice.Literal(Picture));
    }
}
