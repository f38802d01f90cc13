// The scripts of HTTP/1.1 that the differential table sends to nginx (tests/Harness/Cases/SharedCases.cs), beneath
// ASP.NET Core: one server per place where requests run, all scripts over it.
using Microsoft.AspNetCore.Http;
using Weir.AspNetCore;
using Weir.Tests.Harness.Cases;
using Xunit;
using Microsoft.AspNetCore.Builder;

namespace Weir.Tests.AspNetCore;

public sealed class SharedCaseTests
{
    public static TheoryData<RequestPlacement> Everywhere => Hosted.Everywhere;

    private static async Task ServeAsync(HttpContext context)
    {
        HttpRequest request = context.Request;
        string path = request.Path.Value!;
        string said = $"{request.Method} {path}?{request.QueryString.Value!.TrimStart('?')} {request.Host.Host}";
        if (path == SharedCases.Body)
        {
            using var reader = new StreamReader(request.Body);
            said += $" +{(await reader.ReadToEndAsync()).Length}";
        }
        context.Response.StatusCode = path == SharedCases.Last ? SharedCases.LastStatus : 200;
        // Said at once, so that code beside the loop makes one piece of it as well.
        context.Response.ContentLength = said.Length;
        await context.Response.WriteAsync(said);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Applications_answer_the_scripts_of_the_table_as_every_model_does(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(ServeAsync), set: o =>
        {
            o.Limits.MaxRequestBodySize = SharedCases.BodyBytesMax;
            o.Limits.MaxRequestHeadSize = SharedCases.HeadBytesMax;
        });
        (int played, List<string> wrong) = SharedCases.Play(hosted.Connect);
        Assert.True(played > 80);
        Assert.True(wrong.Count == 0, "\n" + string.Join('\n', wrong));
    }
}
