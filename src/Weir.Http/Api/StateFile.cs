// The file that a `state` directive names: the servers of a group as `server` lines. It is read by the master with the
// configuration, and written by whoever changes the list: beside it first, then put in its place, so that a reader
// finds the old list or the new one. Writing blocks and happens off the loop.
using System.Text;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;

namespace Weir.Http.Api;

internal sealed class StateFile(string path, string text) : BlockingOperation
{
    /// <summary>0, or the error number.</summary>
    public int Errno { get; private set; }

    protected override void Work()
    {
        string beside = string.Create(System.Globalization.CultureInfo.InvariantCulture,
            $"{path}.{Environment.ProcessId}.tmp");
        SysResult opened = Descriptors.OpenTruncate(beside);
        if (opened.IsError)
        {
            Errno = opened.Errno;
            return;
        }
        SysResult done = Descriptors.WriteAll(opened.Int, Encoding.Latin1.GetBytes(text));
        done = done.IsError ? done : Descriptors.Synchronize(opened.Int);
        Descriptors.Close(opened.Int);
        done = done.IsError ? done : Descriptors.Rename(beside, path);
        if (done.IsError)
        {
            Errno = done.Errno;
            Descriptors.Unlink(beside);
        }
    }

    /// <summary>Writes the group's list down, again for as long as another worker changed it meanwhile. 0, or the error
    /// number.</summary>
    public static async LoopTask<int> SaveAsync(EventLoop loop, GroupState state, string path)
    {
        while (true)
        {
            (string text, int version) = state.ToConf();
            var file = new StateFile(path, text);
            await loop.Blocking.RunAsync(file);
            if (file.Errno != 0)
            {
                return file.Errno;
            }
            if (state.ToConf().Version == version)
            {
                return 0;
            }
        }
    }
}
