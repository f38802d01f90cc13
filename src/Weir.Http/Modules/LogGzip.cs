// Compresses a full log buffer to one gzip member (access_log … gzip), as zcat reads them one behind the other. Runs
// once per buffer; its memory is the runtime's.
using System.IO.Compression;

namespace Weir.Http.Modules;

internal static class LogGzip
{
    internal static ReadOnlySpan<byte> Compress(ReadOnlySpan<byte> lines, int level)
    {
        var target = new MemoryStream(lines.Length / 2 + 64);
        using (var gzip = new GZipStream(target, new ZLibCompressionOptions { CompressionLevel = level },
            leaveOpen: true))
        {
            gzip.Write(lines);
        }
        return target.GetBuffer().AsSpan(0, (int)target.Length);
    }
}
