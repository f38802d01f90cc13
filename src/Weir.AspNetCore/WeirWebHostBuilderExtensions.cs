// The way in for a web host's builder. In the namespace that a program of ASP.NET Core has open anyway.
using Microsoft.Extensions.DependencyInjection;
using Weir.AspNetCore;

namespace Microsoft.AspNetCore.Hosting;

/// <summary>Weir as the server of a web host.</summary>
public static class WeirWebHostBuilderExtensions
{
    /// <summary>Serves the application with Weir instead of Kestrel.</summary>
    public static IWebHostBuilder UseWeir(this IWebHostBuilder builder, Action<WeirServerOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        return builder.ConfigureServices(services => services.AddWeir(configure));
    }
}
