// The way in where only services are at hand. In the namespace that a program of ASP.NET Core has open anyway.
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Weir.AspNetCore;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Weir as a service.</summary>
public static class WeirServiceCollectionExtensions
{
    /// <summary>Makes Weir the server of the application, in the place of any other.</summary>
    public static IServiceCollection AddWeir(this IServiceCollection services,
        Action<WeirServerOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.AddOptions();
        if (configure is not null)
        {
            services.Configure(configure);
        }
        services.RemoveAll<IServer>();
        services.AddSingleton<IServer, WeirHostServer>();
        return services;
    }
}
