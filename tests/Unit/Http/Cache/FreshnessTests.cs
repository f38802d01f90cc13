// The rules of caching as arithmetic: what is stored and for how long, what may be used.
using System.Text;
using Weir.Http.Cache;
using Xunit;

namespace Weir.Tests.Unit.Http.Cache;

public sealed class FreshnessTests
{
    private const long Now = 1_700_000_000;

    private static CacheControl Control(string text)
    {
        var control = new CacheControl();
        control.Read(Encoding.Latin1.GetBytes(text));
        return control;
    }

    [Theory]
    [InlineData("max-age=60", 60)]
    [InlineData("max-age=\"60\"", 60)]
    [InlineData("MAX-AGE = 60 , public", 60)]
    [InlineData("max-age=60, max-age=10", 10)]
    [InlineData("max-age=abc", 0)]
    [InlineData("max-age=-1", 0)]
    [InlineData("max-age=99999999999999999999", 1L << 31)]
    [InlineData("private=\"a, max-age=5\", max-age=7", 7)]
    [InlineData(",,max-age=1,,", 1)]
    [InlineData("x=\"a\\\", max-age=5, \\\"\", max-age=7", 7)]
    [InlineData("x=\"max-age=5", -1)]
    [InlineData("xmax-age=5, max-agex=6", -1)]
    public void A_lifetime_is_read_as_it_is_meant(string text, long seconds) =>
        Assert.Equal(seconds, Control(text).MaxAge);

    [Theory]
    [InlineData("no-cache=\"Set-Cookie, X-A\"", "x-a", true)]
    [InlineData("private=\"X-A\", max-age=1", "X-A", true)]
    [InlineData("no-cache, x-a", "x-a", false)]
    public void Named_fields_are_found(string text, string field, bool named) =>
        Assert.Equal(named, CacheControl.Names(Encoding.Latin1.GetBytes(text), Encoding.Latin1.GetBytes(field)));

    [Theory]
    [InlineData("max-age=60, must-revalidate", true)]
    [InlineData("max-age=60;x=1", true)]
    [InlineData("Max-Age=60", false)]
    [InlineData("max-age=\"60\"", false)]
    [InlineData("max-age=", false)]
    [InlineData("", false)]
    public void A_targeted_field_is_a_dictionary_or_nothing(string text, bool good) =>
        Assert.Equal(good, CacheControl.IsDictionary(Encoding.Latin1.GetBytes(text)));

    [Fact]
    public void The_age_counts_what_came_before_and_on_the_way()
    {
        var facts = new AnswerFacts
        {
            Status = 200, NowSec = Now, DateSec = Now - 30, AgeSec = 20, DelaySec = 5, Control = Control("max-age=100"),
        };
        Assert.Equal(30, Freshness.PlanRfc(in facts).InitialAgeSec);
        facts.AgeSec = 40;
        Assert.Equal(45, Freshness.PlanRfc(in facts).InitialAgeSec);
    }

    [Fact]
    public void A_heuristic_lifetime_is_a_tenth_and_a_day_at_most()
    {
        var facts = new AnswerFacts { Status = 200, NowSec = Now, DateSec = Now, LastModifiedSec = Now - 1000 };
        Assert.Equal(100, Freshness.PlanRfc(in facts).LifetimeSec);
        facts.LastModifiedSec = 0;
        Assert.Equal(Freshness.HeuristicSecMax, Freshness.PlanRfc(in facts).LifetimeSec);
        facts.Status = 500;
        Assert.False(Freshness.PlanRfc(in facts).Stores);
    }

    [Fact]
    public void Expires_counts_against_Date()
    {
        var facts = new AnswerFacts { Status = 200, NowSec = Now, DateSec = Now - 50, ExpiresSec = Now + 50 };
        StorePlan plan = Freshness.PlanRfc(in facts);
        Assert.Equal((100, 50), (plan.LifetimeSec, plan.InitialAgeSec));
        Assert.Equal(50, Freshness.PlanNginx(in facts).LifetimeSec);
    }

    [Theory]
    [InlineData("must-revalidate, max-age=1", false)]
    [InlineData("proxy-revalidate, max-age=1", false)]
    [InlineData("s-maxage=1", false)]
    [InlineData("max-age=1", true)]
    public void Some_answers_are_never_stale(string control, bool allowed)
    {
        var facts = new AnswerFacts { Status = 200, NowSec = Now, HasETag = true, Control = Control(control) };
        StorePlan plan = Freshness.PlanRfc(in facts);
        CacheControl request = Control("");
        Assert.Equal(Usability.Stale, Freshness.Judge(2, in plan, in request, out bool allowsStale));
        Assert.Equal(allowed, allowsStale);
    }

    [Theory]
    [InlineData(9, "", true)]
    [InlineData(10, "", false)]
    [InlineData(5, "max-age=5", true)]
    [InlineData(6, "max-age=5", false)]
    [InlineData(0, "max-age=0", false)]
    [InlineData(5, "min-fresh=5", true)]
    [InlineData(6, "min-fresh=5", false)]
    [InlineData(15, "max-stale=5", true)]
    [InlineData(16, "max-stale=5", false)]
    [InlineData(1000, "max-stale", true)]
    [InlineData(0, "no-cache", false)]
    public void A_request_says_what_it_takes(long age, string request, bool fresh)
    {
        var plan = new StorePlan { Stores = true, LifetimeSec = 10 };
        CacheControl control = Control(request);
        Assert.Equal(fresh, Freshness.Judge(age, in plan, in control, out bool _) == Usability.Fresh);
    }
}
