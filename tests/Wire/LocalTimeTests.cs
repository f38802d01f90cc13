// The zone of the process (TZ in any form that libc knows), seen in listings and in times of the local day.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class LocalTimeTests
{
    // A zone without a name in any table, 5 h ahead of UTC.
    private const string Zone = "env TZ=XXX-5;";

    [Fact]
    [Trait("Needs", "master")]
    public void A_listing_shows_the_time_of_the_zone_where_that_is_asked_for()
    {
        using var files = new TempDir();
        files.Write("list/a", "x");
        File.SetLastWriteTimeUtc(files.At("list/a"), new DateTime(2020, 1, 31, 22, 0, 0, DateTimeKind.Utc));
        using var weir = ServerProcess.Weir(Conf.Server("""
            location /list/ { autoindex on; }
            location /local/ { alias %FILES%/list/; autoindex on; autoindex_localtime on; }
            """, main: Zone, master: true), files);
        Assert.Contains("31-Jan-2020 22:00", weir.Get("/list/").Text);
        Assert.Contains("01-Feb-2020 03:00", weir.Get("/local/").Text);
    }

    [Fact]
    [Trait("Needs", "master")]
    public void A_time_of_the_day_is_one_of_the_zone_s()
    {
        using var weir = ServerProcess.Weir(Conf.Server("expires @15h; return 204;", main: Zone, master: true));
        var expires = DateTime.ParseExact(weir.Get("/")["Expires"]!, "r", CultureInfo.InvariantCulture);
        Assert.Equal(10, expires.Hour);
    }
}
