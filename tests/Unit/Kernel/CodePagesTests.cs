// Pages of code that nobody needs at the moment go, and come back.
using Weir.Kernel;
using Xunit;

namespace Weir.Tests.Unit.Kernel;

public sealed class CodePagesTests
{
    [Fact(DisplayName = "code pages: what is mapped to be read goes, and everything runs on")]
    public void Drop()
    {
        Assert.True(CodePages.Drop() > 0);
        Assert.Equal("No such file or directory", Errno.Describe(Errno.ENOENT));
        Assert.True(CodePages.Drop() > 0);
        GC.Collect();
    }
}
