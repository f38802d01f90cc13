// aio, aio_write, directio, directio_alignment: how nginx keeps slow disks from blocking its loop. Here no read of a
// file blocks the loop in the first place: what is not in the page cache is read on blocking threads. The directives
// are checked and have no other effect (docs/differences.md).
using Weir.Conf;

namespace Weir.Http.Modules;

internal sealed class FileIoModule : HttpModule
{
    public override string Name => "http_file_io";

    public override void Declare(HttpDeclarations d)
    {
        d.Block("aio", static u =>
        {
            if (u[0] is not ("on" or "off" or "threads") && !u[0].StartsWith("threads=", StringComparison.Ordinal))
            {
                u.Complain("invalid value");
            }
        });
        d.Block("aio_write", static u => u.Walker.TryFlag(u.Directive, out bool _));
        d.Block("directio", static u =>
        {
            if (u[0] != "off")
            {
                u.Walker.TryOffset(u.Directive, out long _);
            }
        });
        d.Block("directio_alignment", static u => u.Walker.TryOffset(u.Directive, out long _));
    }
}
