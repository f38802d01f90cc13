// The public surface of Weir.Server is a promise: src/Weir.Server/PublicAPI.txt lists it, and a change of the one is a
// change of the other. WEIR_UPDATE_API=1 writes the list anew.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class PublicApiTests
{
    [Fact]
    public void The_public_surface_is_the_one_that_is_written_down() =>
        PublicApi.Check(typeof(Server.AppServer).Assembly, "src/Weir.Server/PublicAPI.txt");
}
