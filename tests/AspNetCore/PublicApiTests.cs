// The public surface of Weir.AspNetCore is a promise: src/Weir.AspNetCore/PublicAPI.txt lists it, and a change of
// the one is a change of the other. WEIR_UPDATE_API=1 writes the list anew.
using Weir.AspNetCore;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AspNetCore;

public sealed class PublicApiTests
{
    [Fact]
    public void The_public_surface_is_the_one_that_is_written_down() =>
        PublicApi.Check(typeof(WeirServerOptions).Assembly, "src/Weir.AspNetCore/PublicAPI.txt");
}
