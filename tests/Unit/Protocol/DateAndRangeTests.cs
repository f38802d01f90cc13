// Dates in their written and read forms, log times, ranges, status lines and error pages.
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Weir.Protocol.Http1;
using Xunit;

namespace Weir.Tests.Unit.Protocol;

public class DateAndRangeTests
{
    [Theory]
    [InlineData(0, "Thu, 01 Jan 1970 00:00:00 GMT")]
    [InlineData(784111777, "Sun, 06 Nov 1994 08:49:37 GMT")]
    [InlineData(951782400, "Tue, 29 Feb 2000 00:00:00 GMT")]
    [InlineData(1795342679, "Sun, 22 Nov 2026 10:17:59 GMT")]
    [InlineData(-1, "Wed, 31 Dec 1969 23:59:59 GMT")]
    [InlineData(253402300799, "Fri, 31 Dec 9999 23:59:59 GMT")]
    public void DatesAreWrittenInTheOneForm(long seconds, string text)
    {
        byte[] buffer = new byte[HttpDate.Length];
        Assert.Equal(HttpDate.Length, HttpDate.Format(seconds, buffer));
        Assert.Equal(text, Encoding.ASCII.GetString(buffer));
        Assert.True(HttpDate.TryParse(buffer, out long back));
        Assert.Equal(seconds, back);
    }

    [Theory]
    [InlineData("Sun, 06 Nov 1994 08:49:37 GMT", 784111777)]
    [InlineData("Sunday, 06-Nov-94 08:49:37 GMT", 784111777)]
    [InlineData("Sun Nov  6 08:49:37 1994", 784111777)]
    [InlineData("Sun Nov 16 08:49:37 1994", 784975777)]
    [InlineData("Sunday, 06-Nov-69 08:49:37 GMT", 3150953377)]
    [InlineData("Sun, 06 Nov 1994 08:49:60 GMT", 784111799)]
    public void DatesAreReadInAllThreeForms(string text, long seconds)
    {
        Assert.True(HttpDate.TryParse(Encoding.ASCII.GetBytes(text), out long parsed));
        Assert.Equal(seconds, parsed);
    }

    [Theory]
    [InlineData("")]
    [InlineData("0")]
    [InlineData("Sun, 06 Nov 1994 08:49:37")]
    [InlineData("Sun, 06 Nov 1994 08:49:37 UTC")]
    [InlineData("Sun, 31 Feb 1994 08:49:37 GMT")]
    [InlineData("Sun, 29 Feb 1994 08:49:37 GMT")]
    [InlineData("Sun, 06 Foo 1994 08:49:37 GMT")]
    [InlineData("Sun, 06 Nov 1994 24:49:37 GMT")]
    [InlineData("Sun, 06 Nov 1994 08:60:37 GMT")]
    [InlineData("Sun, 06 Nov 1994 08:49:61 GMT")]
    [InlineData("Sun, 6 Nov 1994 08:49:37 GMT")]
    [InlineData("Sun, 00 Nov 1994 08:49:37 GMT")]
    [InlineData("Sun, 06 Nov 1994 08:49:37 GMT x")]
    [InlineData("Sun, 06 Nov 19a4 08:49:37 GMT")]
    [InlineData("Sun Nov 6 08:49:37 1994")]
    [InlineData("Sun Nov")]
    [InlineData("Sunday, 06-Nov-1994 08:49:37 GMT")]
    public void OtherTextIsNoDate(string text) => Assert.False(HttpDate.TryParse(Encoding.ASCII.GetBytes(text), out _));

    [Fact]
    public void DatesAgreeWithTheFrameworksCalendar() => Prop.ForAll<int>(n =>
    {
        long seconds = n * 29L;
        byte[] buffer = new byte[HttpDate.Length];
        HttpDate.Format(seconds, buffer);
        return Encoding.ASCII.GetString(buffer) == DateTimeOffset.FromUnixTimeSeconds(seconds).ToString("r")
            && CivilTime.FromUnix(seconds).ToUnix() == seconds;
    }).QuickCheckThrowOnFailure();

    [Fact]
    public void LogTimesHaveNginxForms()
    {
        byte[] b = new byte[32];
        Assert.Equal("22/Nov/2026:10:17:59 +0000",
            Encoding.ASCII.GetString(b, 0, TimeFormats.WriteLocal(1795342679, 0, b)));
        Assert.Equal("22/Nov/2026:04:47:59 -0530",
            Encoding.ASCII.GetString(b, 0, TimeFormats.WriteLocal(1795342679, -330, b)));
        Assert.Equal("2026-11-22T12:17:59+02:00",
            Encoding.ASCII.GetString(b, 0, TimeFormats.WriteIso8601(1795342679, 120, b)));
        Assert.Equal("2026/11/22 10:17:59",
            Encoding.ASCII.GetString(b, 0, TimeFormats.WriteErrorLog(1795342679, 0, b)));
    }

    [Theory]
    [InlineData("bytes=0-0", 10, RangeOutcome.Single, "0-1")]
    [InlineData("bytes=0-", 10, RangeOutcome.Single, "0-10")]
    [InlineData("bytes=2-5", 10, RangeOutcome.Single, "2-6")]
    [InlineData("Bytes=2-5", 10, RangeOutcome.Single, "2-6")]
    [InlineData("bytes=2-500", 10, RangeOutcome.Single, "2-10")]
    [InlineData("bytes=-3", 10, RangeOutcome.Single, "7-10")]
    [InlineData("bytes=-30", 10, RangeOutcome.Single, "0-10")]
    [InlineData("bytes= 2 - 5 ", 10, RangeOutcome.Single, "2-6")]
    [InlineData("bytes=0-1,3-4", 10, RangeOutcome.Multi, "0-2 3-5")]
    [InlineData("bytes=0-1, 3-4 ,-1", 10, RangeOutcome.Multi, "0-2 3-5 9-10")]
    [InlineData("bytes=0-1,20-30", 10, RangeOutcome.Single, "0-2")]
    [InlineData("bytes=0-1,1-2,2-3,3-4", 10, RangeOutcome.Multi, "0-2 1-3 2-4 3-5")]
    [InlineData("bytes=0-1,1-2,2-3,3-4,4-5", 10, RangeOutcome.None, "")]
    [InlineData("bytes=0-9,0-9", 10, RangeOutcome.None, "")]
    [InlineData("bytes=-0", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=10-", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=10-20", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=5-2", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=0-", 0, RangeOutcome.None, "")]
    [InlineData("bytes=-5", 0, RangeOutcome.None, "")]
    [InlineData("bytes=5-", 0, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=", 10, RangeOutcome.None, "")]
    [InlineData("bytes=x", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=-", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=1", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=1-2x", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=1-2,", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=+1-2", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=99999999999999999999-", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("bytes=0-99999999999999999999", 10, RangeOutcome.Unsatisfiable, "")]
    [InlineData("lines=0-1", 10, RangeOutcome.None, "")]
    [InlineData("0-1", 10, RangeOutcome.None, "")]
    public void RangesAreReadAsNginxReadsThem(string value, long length, RangeOutcome outcome, string expected)
    {
        Span<ByteRange> ranges = stackalloc ByteRange[4];
        Assert.Equal(outcome, RangeHeader.Parse(Encoding.ASCII.GetBytes(value), length, ranges, out int count));
        string text = string.Join(' ', ranges[..count].ToArray().Select(r => $"{r.Start}-{r.End}"));
        Assert.Equal(expected, outcome is RangeOutcome.Single or RangeOutcome.Multi ? text : "");
    }

    [Fact]
    public void ServedRangesLieWithinTheBody() => Prop.ForAll<int[], uint>((numbers, size) =>
    {
        string[] pieces = ["-", ",", " ", "0", "1", "9", "99", "5-", "-5", "3-4", "bytes="];
        string value = "bytes=" + string.Concat(numbers.Select(n => pieces[(int)((uint)n % pieces.Length)]));
        long length = size % 1000;
        Span<ByteRange> ranges = stackalloc ByteRange[8];
        RangeOutcome outcome = RangeHeader.Parse(Encoding.ASCII.GetBytes(value), length, ranges, out int count);
        if (outcome is RangeOutcome.None or RangeOutcome.Unsatisfiable)
        {
            return true;
        }
        bool fine = count > 0 && (count == 1) == (outcome == RangeOutcome.Single);
        foreach (ByteRange r in ranges[..count])
        {
            fine &= r.Start >= 0 && r.Start < r.End && r.End <= length;
        }
        return fine;
    }).QuickCheckThrowOnFailure();

    [Theory]
    [InlineData(200, "HTTP/1.1 200 OK\r\n")]
    [InlineData(302, "HTTP/1.1 302 Moved Temporarily\r\n")]
    [InlineData(103, "HTTP/1.1 103 Early Hints\r\n")]
    [InlineData(299, "HTTP/1.1 299 \r\n")]
    [InlineData(498, "HTTP/1.1 498 \r\n")]
    public void StatusLinesAreNginxs(int status, string line)
    {
        byte[] b = new byte[StatusLines.LengthMax];
        Assert.Equal(line, Encoding.ASCII.GetString(b, 0, StatusLines.Write(status, b)));
    }

    [Fact]
    public void EveryStatusLineFitsAndNamesItsStatus()
    {
        byte[] b = new byte[StatusLines.LengthMax];
        for (int status = 100; status < 1000; status++)
        {
            string line = Encoding.ASCII.GetString(b, 0, StatusLines.Write(status, b));
            Assert.StartsWith($"HTTP/1.1 {status} ", line);
            Assert.EndsWith("\r\n", line);
            if (!StatusLines.Text(status).IsEmpty)
            {
                Assert.Equal(line, $"HTTP/1.1 {Encoding.ASCII.GetString(StatusLines.Text(status))}\r\n");
                Assert.Equal(line, $"HTTP/1.1 {status} {Encoding.ASCII.GetString(StatusLines.Phrase(status))}\r\n");
            }
        }
    }

    [Fact]
    public void ErrorPagesHaveNginxsMarkup()
    {
        string page = Encoding.ASCII.GetString(ErrorPages.Head(404)) + Encoding.ASCII.GetString(ErrorPages.Tail);
        Assert.Equal("<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n"
            + "<center><h1>404 Not Found</h1></center>\r\n<hr><center>weir</center>\r\n</body>\r\n</html>\r\n", page);
        Assert.Equal(Encoding.ASCII.GetString(ErrorPages.Tail), Encoding.ASCII.GetString(ErrorPages.TailStart) + "weir"
            + Encoding.ASCII.GetString(ErrorPages.TailEnd));
        Assert.Equal(400, ErrorPages.WireStatus(494));
        Assert.Contains("Request Header Or Cookie Too Large", Encoding.ASCII.GetString(ErrorPages.Head(494)));
        Assert.True(ErrorPages.Head(418).IsEmpty);
        Assert.Equal(67 * 6, ErrorPages.MsiePadding.Length);
    }
}
