// The scripts of HTTP/1.1 that the differential table sends to nginx (tests/Harness/Cases/SharedCases.cs), under every
// concurrency model: one server per model, all scripts over it.
using Weir.Server;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class SharedCaseTests
{
    public static TheoryData<string> All => Models.All;

    private static async Task Serve(AppRequest request, AppResponse response)
    {
        string said = $"{request.Method} {request.Path}?{request.Query} {request.Host}";
        if (request.Path == SharedCases.Body)
        {
            using var reader = new StreamReader(request.Body);
            said += $" +{(await reader.ReadToEndAsync()).Length}";
        }
        response.StatusCode = request.Path == SharedCases.Last ? SharedCases.LastStatus : 200;
        response.Write(said);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Every_model_answers_the_scripts_of_the_table_alike(string model)
    {
        using var running = new Running(model, Serve, static options =>
        {
            options.MaxBodyBytes = SharedCases.BodyBytesMax;
            options.MaxHeadBytes = SharedCases.HeadBytesMax;
        });
        (int played, List<string> wrong) = SharedCases.Play(running.Connect);
        Assert.True(played > 80);
        Assert.True(wrong.Count == 0, "\n" + string.Join('\n', wrong));
    }
}
